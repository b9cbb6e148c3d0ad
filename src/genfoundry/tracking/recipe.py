"""The recipe of a registered model, stored in its run: dvc.lock, params.yaml and the pointers to raw data.

The commit of a run says too little: settings and data may have been changed since it, and the dvc.lock that names the
results is committed afterwards, or never. These few small files lead from a version to every object of DVC's cache
behind it, whatever became of branches: upkeep keeps those objects, backup takes them, `genfoundry reproduce` uses them.
"""

import re
import tempfile
from pathlib import Path

from genfoundry.config.pointers import md5
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import Store

FOLDER = "recipe"


def recipe_files(root: Path) -> list[Path]:
    """The files of a workspace that make a recipe."""
    names = ["dvc.lock", "params.yaml", "data.dvc"]
    imports = sorted((root / "imports").glob("*.dvc"))
    return [path for path in (*(root / name for name in names), *imports) if path.is_file()]


def locked_model(text: str, key: str) -> str:
    """DVC's md5 of a trained model, as the text of a dvc.lock has it; empty if it has none.

    Read by its lines: to parse one takes 0.36 s (80 kB), and upkeep reads many.
    """
    stage = re.search(rf"^  train@{re.escape(key)}:\n(.*?)(?=^  \S|\Z)", text, re.M | re.S)
    outs = stage[1].partition("\n    outs:\n")[2] if stage else ""
    found = re.search(rf"- path: artifacts/models/{re.escape(key)}/model\n(?:      \S.*\n)*?      md5: (\S+)", outs)
    return found[1] if found else ""


def log_recipe(run: Run, root: Path, key: str, model: Path) -> bool:
    """Put the recipe of a workspace's model into its run, once; False if dvc.lock names another model.

    Args:
        run: Run of the model's state.
        root: Workspace.
        key: The model's block of params.yaml.
        model: Its published folder.
    """
    if any(file.path.endswith("dvc.lock") for file in run.client.list_artifacts(run.run_id, FOLDER)):
        return True
    if not (root / "dvc.lock").is_file() or locked_model((root / "dvc.lock").read_text(), key) != md5(model):
        return False
    # dvc.lock last: if it is there, all of it is.
    for path in reversed(recipe_files(root)):
        below = path.parent.relative_to(root).as_posix()
        run.client.log_artifact(run.run_id, str(path), FOLDER if below == "." else f"{FOLDER}/{below}")
    return True


def read_recipe(store: Store, run_id: str) -> dict[str, str]:
    """Texts of a run's recipe by their path in the workspace; empty if it has none."""
    from mlflow.exceptions import MlflowException

    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            if not store.client.list_artifacts(run_id, FOLDER):
                return {}
            place = Path(store.client.download_artifacts(run_id, FOLDER, folder))
        except (MlflowException, OSError):
            return {}
        for path in sorted(place.rglob("*")):
            if path.is_file():
                found[path.relative_to(place).as_posix()] = path.read_text()
    return found if "dvc.lock" in found else {}
