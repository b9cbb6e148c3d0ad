"""What lies beside a model's own files for `mlflow models` and for readers of the UI: signature, example, code.

genfoundry itself never reads any of it: it brings the files that the model's manifest names, and builds its own class
by its name (`registry.fetch_model`, `modelfile.load_model`). Who calls `mlflow.pyfunc.load_model` runs code from the
store, as with any MLflow model: here the few lines of ``CODE``, and no pickle.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genfoundry.core.io import MANIFEST, read_json

CODE_FILE = "sampler_model.py"

CODE = '''"""The model for `mlflow models serve`; it needs genfoundry installed. genfoundry never loads this file."""

from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Sampler(PythonModel):
    """Rows of requests in, samples out (genfoundry.promotion.requests)."""

    def load_context(self, context):
        from genfoundry.promotion.requests import Sampled

        self.sampled = Sampled.beside(Path(context.artifacts["manifest"]))

    def predict(self, context, model_input, params=None):
        return self.sampled.answer(model_input.to_dict("records"))


set_model(Sampler())
'''

PACKAGES = ("torch", "numpy", "pandas", "pydantic", "safetensors", "tokenizers", "mlflow")


def example(spec: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A request: how many pictures, a seed and, where the model heeds it, a label; or a prompt, a length and a seed."""
    if spec["kind"] == "token":
        return {"prompt": "", "max_tokens": 64, "seed": 0}
    asked: dict[str, Any] = {"n": 2, "seed": 0}
    return asked | ({"label": spec["labels"][0]} if spec["labels"] and options.get("conditional") else {})


def write_flavour(model: Path, folder: Path, model_id: str, run_id: str) -> None:
    """Write MLmodel, example, code and requirements for a model folder.

    Args:
        model: Published folder.
        folder: Where to.
        model_id: Of the LoggedModel.
        run_id: Of the run that made it.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import add_to_model
    from mlflow.types import ColSpec, Schema, TensorSpec

    spec = read_json(model / "spec.json")
    asked = example(spec, read_json(model / "config.json")["options"])
    types = {"prompt": "string", "label": "string", "max_tokens": "long", "n": "long", "seed": "long"}
    inputs = Schema([ColSpec(types[name], name, required=name not in ("label", "max_tokens")) for name in asked])
    outputs = Schema([ColSpec("string", "text")]) if spec["kind"] == "token" else _grids(spec, TensorSpec, Schema)
    made = Model(
        run_id=run_id,
        model_id=model_id,
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
            "serving_input_path": "serving_input_example.json",
        },
    )
    artifacts = {"manifest": {"path": MANIFEST, "uri": MANIFEST}}
    add_to_model(
        made,
        loader_module="mlflow.pyfunc.model",
        python_env="python_env.yaml",
        model_code_path=CODE_FILE,
        artifacts=artifacts,
    )
    made.save(str(folder / "MLmodel"))
    split = {"columns": list(asked), "data": [list(asked.values())]}
    (folder / "input_example.json").write_text(json.dumps(split) + "\n")
    (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": split}) + "\n")
    (folder / CODE_FILE).write_text(CODE)
    pins = "".join(f"{name}=={version(name)}\n" for name in PACKAGES)
    (folder / "requirements.txt").write_text("# and genfoundry itself, of the commit on the model's card\n" + pins)
    (folder / "python_env.yaml").write_text("dependencies:\n- -r requirements.txt\n")


def _grids(spec: Mapping[str, Any], tensor: Any, schema: Any) -> Any:
    import numpy as np

    return schema([tensor(np.dtype("uint8"), (-1, spec["channels"], *spec["shape"]))])
