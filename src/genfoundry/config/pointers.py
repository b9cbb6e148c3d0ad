"""DVC's data pointers: the md5 of a folder, and the md5 that a workspace's data.dvc names."""

import hashlib
import json
from pathlib import Path

from genfoundry.config.params import read_yaml
from genfoundry.core.errors import DataError


def listing(target: Path) -> dict[str, str]:
    """md5 of each file below a folder, by its posix path, sorted."""
    files = sorted((path.relative_to(target).as_posix(), path) for path in target.rglob("*") if path.is_file())
    return {name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for name, path in files}


def md5(target: Path) -> str:
    """The md5 of a folder as DVC writes it into a ``.dvc`` file: over the sorted list of names and md5s."""
    entries = [{"md5": value, "relpath": name} for name, value in listing(target).items()]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def read_pointer(root: Path) -> str:
    """The md5 that ``data.dvc`` of a workspace holds.

    Raises:
        DataError: There is no data.dvc, or it names no md5.
    """
    pointer = root / "data.dvc"
    if not pointer.is_file():
        raise DataError(f"{pointer}: no such file; restore it with git, or run: dvc add data")
    outs = read_yaml(pointer).get("outs")
    if not isinstance(outs, list) or not outs or not isinstance(outs[0], dict) or "md5" not in outs[0]:
        raise DataError(f"{pointer}: holds no 'outs' with an md5; restore it with git, or run: dvc add data")
    return str(outs[0]["md5"])
