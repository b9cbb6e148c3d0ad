"""Write the files that `mlflow models` and the UI need beside a model: MLmodel, example, requirements.

genfoundry itself never reads any of it: it brings the files that the model's manifest names, and builds its own class
by its name (`registry.fetch_model`, `modelfile.load_model`). Who calls `mlflow.pyfunc.load_model` runs the module that
``MLmodel`` names, as with any MLflow model: here one of the installed genfoundry, so that no code lies in the store.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from genfoundry.config.params import read_architecture
from genfoundry.config.specs import read_spec
from genfoundry.modalities.common.lookup import media_of

PACKAGES = ("torch", "numpy", "pandas", "pydantic", "safetensors", "tokenizers", "mlflow")


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

    media = media_of(read_spec(model))
    asked = media.request(bool(read_architecture(model).options.get("conditional")))
    answers = media.answers()
    if "dtype" in answers:
        outputs = Schema([TensorSpec(np.dtype(answers["dtype"]), answers["shape"])])
    else:
        types = {str: "string", int: "long", float: "double", bool: "boolean"}
        outputs = Schema([ColSpec(types[type(value)], name) for name, value in answers.items()])
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
