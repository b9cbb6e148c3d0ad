"""A block under `bases:`, a model to start from."""

from pydantic import Field

from genfoundry.config.specs import Key, Section


class Base(Section):
    """A pretrained model to start from; without a path it is the empty base ``scratch``."""

    path: str = ""
    """Its file or folder, relative to the project."""
    format: Key = "genfoundry"
    """How it is written: a file under ``formats/``."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """Digest of what lies at ``path``: of a file its bytes, of a folder with a manifest the manifest, else its files'
    names and contents. Where it is missing, the error says what to write.
    """
    license: str = ""
    """Under which licence it may be used, as its owners name it (an SPDX identifier); kept with the imported model."""
