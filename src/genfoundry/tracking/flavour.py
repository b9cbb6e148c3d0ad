"""What lies beside a model's own files for `mlflow models` and for readers of the UI: loader, example, requirements.

genfoundry itself never reads any of it: it brings the files that the model's manifest names, and builds its own class
by its name (`registry.fetch_model`, `modelfile.load_model`). Who calls `mlflow.pyfunc.load_model` runs the module that
``MLmodel`` names, as with any MLflow model: here one of the installed genfoundry, so that no code lies in the store.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genfoundry.core.io import read_json

PACKAGES = ("torch", "numpy", "pandas", "pydantic", "safetensors", "tokenizers", "mlflow")


def example(spec: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A request: how many pictures, a seed and, where the model heeds it, a label; or a prompt, a length and a seed."""
    if spec["kind"] == "token":
        return {"prompt": "", "max_tokens": 64, "seed": 0}
    asked: dict[str, Any] = {"n": 2, "seed": 0}
    return asked | ({"label": spec["labels"][0]} if spec["labels"] and options.get("conditional") else {})


def write_flavour(model: Path, folder: Path, model_id: str, run_id: str, loader: str) -> None:
    """Write MLmodel, example and requirements for a model folder.

    The signature says what comes out, and the example what goes in: of inputs that a signature names, MLflow drops the
    others before the model sees them, and a misspelt field would be no error (tried with 3.17).

    Args:
        model: Published folder.
        folder: Where to.
        model_id: Of the LoggedModel.
        run_id: Of the run that made it.
        loader: Module with ``_load_pyfunc``.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types import ColSpec, Schema, TensorSpec

    spec = read_json(model / "spec.json")
    asked = example(spec, read_json(model / "config.json")["options"])
    outputs = Schema([ColSpec("string", "text")]) if spec["kind"] == "token" else _grids(spec, TensorSpec, Schema)
    made = Model(
        run_id=run_id,
        model_id=model_id,
        signature=ModelSignature(outputs=outputs),
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
        },
    )
    add_to_model(made, loader_module=loader, python_env="python_env.yaml")
    made.save(str(folder / "MLmodel"))
    split = {"columns": list(asked), "data": [list(asked.values())]}
    (folder / "input_example.json").write_text(json.dumps(split) + "\n")
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": split}) + "\n")
    pins = "".join(f"{name}=={version(name)}\n" for name in PACKAGES)
    (folder / "requirements.txt").write_text("# and genfoundry itself, of the commit on the model's card\n" + pins)
    (folder / "python_env.yaml").write_text("dependencies:\n- -r requirements.txt\n")


def _grids(spec: Mapping[str, Any], tensor: Any, schema: Any) -> Any:
    import numpy as np

    return schema([tensor(np.dtype("uint8"), (-1, spec["channels"], *spec["shape"]))])
