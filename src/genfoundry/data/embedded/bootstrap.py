"""`genfoundry bootstrap`: build or fetch data/, and fail where raw data differ from data.dvc.

`dvc repro` rewrites data.dvc in silence when a raw byte changed (tried), so this check runs before it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from genfoundry.config.pointers import listing, md5, read_pointer
from genfoundry.core.errors import DataError, error_line
from genfoundry.data.embedded.packages import EMBEDDED_MD5, build

SHOWN = 5
"""Differing files named in a message."""


def bootstrap(root: Path) -> str:
    """Build or fetch data/ if it is not there, and compare it with data.dvc; returns a line to print.

    Raises:
        DataError: data/ differs from data.dvc, or can't be had; says what differs and what to do.
    """
    data, wanted = root / "data", read_pointer(root)
    made = ""
    if not data.exists():
        made = _embedded(data) if wanted == EMBEDDED_MD5 else _fetched(root)
    difference = data_difference(root)
    if difference:
        raise DataError(difference)
    return f"data/ is what data.dvc says ({wanted}){made}"


def _embedded(data: Path) -> str:
    build(data)
    return ", built from the locked packages"


def _fetched(root: Path) -> str:
    """A fork's own data: from the cache, else from its remote."""
    for command in ("checkout", "pull"):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", command, "data.dvc"], cwd=root, capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and (root / "data").exists():
            return f", by dvc {command}"
    raise DataError(
        f"data/: not there, and dvc pull can't bring it ({error_line(done.stderr.splitlines())}); "
        "add the remote (dvc remote add -d) or put the files back"
    )


def data_difference(root: Path) -> str:
    """What differs between data/ and data.dvc, with the remedy; empty if nothing does."""
    data, wanted = root / "data", read_pointer(root)
    if not data.is_dir():
        return "data/: not there; run `genfoundry bootstrap` (or `make repro`, which does)"
    if md5(data) == wanted:
        return ""
    before = _listing_of(root, wanted)
    if before is None:
        what = "its files differ, and the cache holds no list of what they were"
    else:
        now = listing(data)
        faults = [f"{name} is missing" for name in sorted(before.keys() - now.keys())]
        faults += [f"{name} was added" for name in sorted(now.keys() - before.keys())]
        faults += [f"{name} was changed" for name in sorted(before.keys() & now.keys()) if before[name] != now[name]]
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        what = "; ".join(faults[:SHOWN]) + more
    back = (
        "remove data/ and run `genfoundry bootstrap`" if wanted == EMBEDDED_MD5 else "`dvc checkout data.dvc --force`"
    )
    remedy = f"To go on with the new data: `dvc add data`; to go back: {back}"
    return f"data/ is not what data.dvc says ({wanted}): {what}. {remedy}"


def _listing_of(root: Path, pointer: str) -> dict[str, str] | None:
    """md5 by file name of a version of data/: from DVC's cache, or from a rebuild of the embedded data."""
    cached = root / ".dvc/cache/files/md5" / pointer[:2] / pointer[2:]
    if cached.is_file():
        return {entry["relpath"]: entry["md5"] for entry in json.loads(cached.read_bytes())}
    if pointer == EMBEDDED_MD5:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder) / "data")
            return listing(Path(folder) / "data")
    return None
