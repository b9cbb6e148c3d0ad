"""What every modality must offer, and what the data line must not import."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from genfoundry.config.sections.table import DATASET_SECTIONS
from genfoundry.core import parts
from genfoundry.modalities.common.media import Media

SRC = Path(__file__).resolve().parents[3] / "src/genfoundry"

KERNELS = {"alignment", "setkernel", "shinglekernel"}

SIGNATURES = {
    "read": ["source", "config"],
    "clean": ["records", "config"],
    "expectations": [],
    "fingerprints": ["records", "config"],
    "perturb": ["records", "generator"],
    "encode": ["read", "counts", "config", "folder"],
    "compare": ["first", "second"],
}


@pytest.mark.parametrize("name", parts.names("modalities"))
def test_a_modality_offers_the_whole_contract(name: str) -> None:
    modality = parts.load("modalities", name)

    for function, parameters in SIGNATURES.items():
        found = getattr(modality, function)
        assert list(inspect.signature(found).parameters) == parameters and found.__doc__
    assert next(iter(inspect.signature(modality.show).parameters)) == "record"
    for section in ("Ingest", "Preprocess", "Dedup", "Encode"):
        assert issubclass(getattr(modality, section), DATASET_SECTIONS[section.lower()])
        getattr(modality, section)()  # every field has a default
    assert issubclass(importlib.import_module(f"{modality.__name__}.media").Media, Media)
    assert modality.FACTS and not set(modality.FACTS) & {"id", "label", "split", "sha256", "content"}


def test_importing_the_data_line_loads_nothing_heavy() -> None:
    """A stage on 100 records takes three seconds in all: what it does not use it must not load."""
    root = SRC
    # Modules of compiled kernels are for the stages that search for copies, which import them when they begin.
    files = [f for kind in ("data", "modalities") for f in (root / kind).rglob("*.py") if f.stem not in KERNELS]
    modules = [".".join(file.relative_to(root.parent).with_suffix("").parts) for file in files]
    heavy = ("torch", "pandas", "pyarrow", "PIL", "great_expectations", "scipy", "sklearn", "tokenizers", "mlflow")
    code = f"import sys, importlib\nfor name in {sorted(modules)}: importlib.import_module(name)\n"
    code += f"print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root.parent)

    assert done.stdout.strip() == "[]"
    sources = [file.read_text() for file in files]
    assert not any("import torch" in source or "from torch" in source for source in sources)
