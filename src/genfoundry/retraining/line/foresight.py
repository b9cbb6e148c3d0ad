"""What a retrain of these inputs would be refused for, as far as it can be told without touching anything."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from genfoundry.config.pointers import md5
from genfoundry.core.errors import ConfigError, GenfoundryError, InfrastructureError
from genfoundry.data.embedded.packages import EMBEDDED_MD5
from genfoundry.retraining.line.preflight import enough_space
from genfoundry.retraining.line.real import RealLine
from genfoundry.retraining.line.snapshots import POINTER
from genfoundry.retraining.protocol import Snapshot
from genfoundry.state.checkout import environment_in, has_remote
from genfoundry.upkeep.dvccache import cache_folder, needed, object_path

Contents = Callable[[Path], list[str]]
"""Faults of a project's settings and data: ``genfoundry check`` without what concerns the machine."""


def foreseen(line: RealLine, snapshot: Snapshot, contents: Contents) -> Iterator[tuple[str, GenfoundryError]]:
    """(step, error that it would end with), in the order of the steps."""
    steps = (
        ("update", lambda: _update(line)),
        ("preflight", lambda: enough_space(line.state, line.options.free_gib)),
        ("data", lambda: _data(line, snapshot)),
        ("contracts", lambda: _contracts(line, snapshot, contents)),
        ("commit", lambda: line.branch_is_free(snapshot.key, line.options.push)),
        ("push", lambda: _push(line)),
    )
    for name, step in steps:
        try:
            step()
        except GenfoundryError as error:
            yield name, error


def _update(line: RealLine) -> None:
    command = line.options.update[:1]
    path = environment_in(line.root, line.state)["PATH"]
    if command and os.sep not in command[0] and not shutil.which(command[0], path=path):
        raise ConfigError(f"{command[0]}: no such command (retraining.update)")


def _lies_there(line: RealLine, snapshot: Snapshot) -> bool:
    """Whether data/ of the checkout are the data of the retrain."""
    if line.options.update or not (line.root / "data").is_dir():
        return False
    return bool(snapshot.facts.get("workspace")) or md5(line.root / "data") == snapshot.data[POINTER]


def _data(line: RealLine, snapshot: Snapshot) -> None:
    """Committed data that are neither in the cache nor in a remote."""
    wanted = snapshot.data[POINTER]
    if snapshot.facts.get("workspace") or wanted == EMBEDDED_MD5 or has_remote(line.root):
        return
    cache = cache_folder(line.root)
    objects = sorted(needed(cache, [f"md5: {wanted}"], strict=False))
    gone = [one for one in objects if not object_path(cache, one).is_file()]
    if gone:
        raise InfrastructureError(
            f"{POINTER}: {len(gone)} of its objects are not in DVC's cache, such as {gone[0]}, and there is no remote "
            "to pull them from; run dvc add data, or put the data back"
        )


def _contracts(line: RealLine, snapshot: Snapshot, contents: Contents) -> None:
    """Faults of the commit's settings, with the data where they lie in the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        project, packed = Path(folder) / "project", Path(folder) / "project.tar"
        line.git("archive", "--format=tar", f"--output={packed}", snapshot.commit, ".")
        with tarfile.open(packed) as archive:
            archive.extractall(project, filter="tar")
        if _lies_there(line, snapshot) and not (project / "data").exists():
            (project / "data").symlink_to(line.root / "data")
        imports = line.root / "imports"
        for entry in sorted(imports.iterdir()) if imports.is_dir() else ():
            (project / "imports").mkdir(exist_ok=True)
            if not (project / "imports" / entry.name).exists():
                (project / "imports" / entry.name).symlink_to(entry)
        if faults := contents(project):
            raise ConfigError("\n".join(faults).replace(f"{project}/", ""))


def _push(line: RealLine) -> None:
    remote = line.options.push
    if remote and remote not in line.git("remote").split() and not (set(remote) & set("/:")):
        raise InfrastructureError(f"git knows no remote {remote!r} (retraining.push); git remote -v lists them")
