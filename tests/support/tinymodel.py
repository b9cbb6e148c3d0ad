"""A project whose one stage trains a model of a few bytes, under real git, DVC and MLflow: for backup and reproduce."""

import shutil
import subprocess
import sys
from pathlib import Path

from histories import History, SetClock, git

from genfoundry.core.io import folder_digest
from genfoundry.tracking import tags
from genfoundry.tracking.recipe import log_recipe
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import open_store

STAGE = """
import json, pathlib, sys
from genfoundry.core.io import publish_folder, write_json
from ruamel.yaml import YAML
key = sys.argv[1]
steps = YAML(typ="safe").load(pathlib.Path("params.yaml"))["models"][key]["training"]["steps"]
undeclared = pathlib.Path("../../../undeclared.txt")
if pathlib.Path("undeclared.txt").exists():
    undeclared = pathlib.Path("undeclared.txt")
luck = undeclared.read_text() if undeclared.exists() else ""
with publish_folder(pathlib.Path("artifacts/models", key, "model")) as folder:
    (folder / "weights.safetensors").write_text(f"{pathlib.Path('data/a.txt').read_text()} {steps} {luck}")
    (folder / "config.json").write_text("{}")
"""

CODE = """
import hashlib, json, pathlib
digest = hashlib.sha256(pathlib.Path("stage.py").read_bytes()).hexdigest()
for key in ("writer",):
    file = pathlib.Path("artifacts/code", f"train@{key}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"format": 1, "modules": {"stage": digest}}))
"""

DVC = """
stages:
  code:
    cmd: python code_files.py
    deps: [code_files.py, stage.py]
    outs: [artifacts/code]
  train:
    foreach: ${models}
    do:
      cmd: python stage.py ${key}
      deps: [data, "artifacts/code/train@${key}.json"]
      params: ["models.${key}.training"]
      outs: ["artifacts/models/${key}/model"]
"""

PARAMS = """
format: 1
project: p
execution: {}
numerics: {}
bases: {}
datasets: {}
models:
  writer:
    {dataset: notes, family: rnn, init_from: scratch, options: {}, training: {steps: 3}, sampling: {}, evaluation: {}}
"""


def dvc(root: Path, *words: str) -> str:
    import os

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def lay_out(root: Path, template: Path) -> History:
    """Trained, registered with its recipe, champion; dvc.lock is not committed."""
    (root / "data").mkdir(parents=True)
    (root / "data/a.txt").write_text("raw")
    for name, text in {
        "stage.py": STAGE,
        "code_files.py": CODE,
        "dvc.yaml": DVC,
        "params.yaml": PARAMS,
        "requirements.lock": "x==1\n",
        ".gitignore": "/mlruns/\n/checkpoints/\n/cache/\n/artifacts/\n/data\n*.partial\n/undeclared.txt\n",
    }.items():
        (root / name).write_text(text)
    git(root, "init", "-q")
    dvc(root, "init", "-q")
    dvc(root, "config", "core.analytics", "false")
    dvc(root, "add", "-q", "data")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "settings and data")
    dvc(root, "repro", "-q")
    shutil.copytree(template / "mlruns", root / "mlruns")
    history = History(root, open_store(root, "p"))
    register(history)
    return history


def copied(history: History, root: Path, clock: SetClock) -> History:
    """A copy of the project under another root, at a time of its own."""
    shutil.copytree(history.root, root, symlinks=True)
    return History(root, open_store(root, "p"), clock, dict(history.digests), dict(history.runs))


def register(history: History) -> str:
    """Register the workspace's model as the next version, make it champion, and keep its recipe."""
    model = history.root / "artifacts/models/writer/model"
    number = history.version("writer", 1, weights="", source=model)
    run_id = history.runs["writer", number]
    history.store.client.set_tag(run_id, tags.COMMIT, git(history.root, "rev-parse", "HEAD"))
    assert history.digests["writer", number] == folder_digest(model)
    assert log_recipe(Run(history.store, run_id, "train"), history.root, "writer", model)
    history.alias("writer", "champion", number)
    return number
