"""Garbage collection of DVC's cache: which objects are needed, damaged or deletable.

`dvc gc` keeps objects by commits in git only. Here an object is needed if a pointer names it that lies
in any workspace, in any commit that a branch, tag, stash or experiment of git stands on, or in the recipe of a model
that serves: so a champion keeps its objects even if its dvc.lock was never committed. Nothing younger than a day goes,
and nothing while DVC works.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from genfoundry.core.errors import BusyError, DataError, InfrastructureError, error_line
from genfoundry.core.processes import alive
from genfoundry.state.checkout import Git
from genfoundry.upkeep.protection import workspaces

MD5 = re.compile(r"\bmd5: ['\"]?([0-9a-f]{32}(?:\.dir)?)\b")
"""As dvc.lock and .dvc files write it; of dependencies too, which does no harm."""

GRACE_S = 86_400.0
"""An object that came into the cache so recently may belong to a dvc.lock that is still to be written."""


def cache_folder(root: Path) -> Path:
    """Where DVC keeps its cache, whatever its settings say."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise InfrastructureError(f"dvc cache dir: {error_line(done.stderr.splitlines())}")
    return Path(done.stdout.strip())


def object_path(cache: Path, md5: str) -> Path:
    """Where an object lies in a cache."""
    return cache / "files/md5" / md5[:2] / md5[2:]


def objects(cache: Path) -> Iterator[tuple[str, Path]]:
    """(md5, file) of every object; that of a folder's list ends in ``.dir``."""
    for folder in sorted((cache / "files/md5").glob("[0-9a-f][0-9a-f]")):
        for file in sorted(folder.iterdir()):
            if re.fullmatch(r"[0-9a-f]{30}(\.dir)?", file.name):
                yield folder.name + file.name, file


def damaged(md5: str, file: Path) -> bool:
    """True if an object's bytes are not what its name says. DVC itself looks at time and mode only (tried)."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != md5[:32]


def _blobs(root: Path) -> set[str]:
    """Git's ids of all dvc.lock and .dvc files that a ref, HEAD or the head of a worktree stands on."""
    git = Git(root)
    # No answer of git is not "nothing stands there": what a branch needs would be swept. So these two must not fail.
    facts = "%(objecttype) %(objectname)%0a%(*objecttype) %(*objectname)"
    values = git("for-each-ref", f"--format={facts}").splitlines()
    heads = {line.split()[1] for line in values if line.startswith(("commit ", "tree "))}
    heads |= {line.split()[1] for line in git("worktree", "list", "--porcelain").splitlines() if line[:5] == "HEAD "}
    heads |= {git("rev-parse", "HEAD", check=False)}  # empty before the first commit
    found = set()
    for head in sorted(head for head in heads if head.strip("0")):
        for line in git("ls-tree", "-r", head).splitlines():
            about, _, name = line.partition("\t")
            if name.endswith((".dvc", "dvc.lock")):
                found.add(about.split()[2])
    return found


def pointers(root: Path) -> Iterator[str]:
    """Texts of all pointers that git's refs and the workspaces hold."""
    blobs = sorted(_blobs(root))
    if blobs:
        done = subprocess.run(
            ["git", "-C", root, "cat-file", "--batch"],
            input="\n".join(blobs),
            capture_output=True,
            text=True,
            check=True,
        )
        yield done.stdout
    for place in workspaces(root):
        skip = {".git", ".venv", ".dvc", "artifacts", "data", "mlruns", "cache"}
        for folder in (place, *(path for path in place.iterdir() if path.is_dir() and path.name not in skip)):
            for file in (
                *folder.glob("dvc.lock"),
                *(folder.glob("*.dvc") if folder == place else folder.rglob("*.dvc")),
            ):
                if file.is_file():
                    yield file.read_text()


def needed(cache: Path, texts: Iterable[str], strict: bool = True) -> set[str]:
    """md5 of every object that these pointers lead to: those named, and the files of folders.

    Raises:
        DataError: The list of a folder is damaged, so its files are not known; only if ``strict``.
    """
    found: set[str] = set()
    for text in texts:
        found.update(MD5.findall(text))
    for md5 in [md5 for md5 in found if md5.endswith(".dir")]:
        try:
            found.update(str(entry["md5"]) for entry in json.loads(object_path(cache, md5).read_bytes()))
        except FileNotFoundError:
            continue
        except ValueError:
            if strict:
                raise DataError(
                    f"{object_path(cache, md5)}: damaged list of a folder; genfoundry verify --remove, then dvc pull "
                    "or dvc repro"
                ) from None
    return found


def size(cache: Path) -> int:
    """Bytes of all objects."""
    return sum(file.stat().st_size for _, file in objects(cache))


def unneeded(cache: Path, wanted: set[str], now_s: float) -> list[tuple[str, Path]]:
    """Unreferenced objects; folders' lists first, so that no list outlives its files."""
    found = []
    for md5, file in objects(cache):
        # The time of the last change of the entry itself: linking or moving a file into the cache sets it, and
        # unlike the time of its contents it can't be an old one.
        if md5 not in wanted and now_s - file.stat().st_ctime >= GRACE_S:
            found.append((md5, file))
    return sorted(found, key=lambda pair: not pair[0].endswith(".dir"))


@contextmanager
def quiet(root: Path) -> Iterator[None]:
    """Keep DVC from starting anything in a workspace while its cache is collected.

    Raises:
        BusyError: DVC is at work there.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    for place in workspaces(root):
        for pid in _working(place):
            raise BusyError(f"{place}: DVC is at work (process {pid}); its cache is left as it is")
    try:
        with Repo(str(root)) as repo, repo.lock:
            yield
    except DvcException as error:
        raise BusyError(f"{root}: {str(error).splitlines()[0]}; its cache is left as it is") from error


def _working(place: Path) -> Iterator[int]:
    """Living processes that DVC's own table names as readers or writers."""
    try:
        table = json.loads((place / ".dvc/tmp/rwlock").read_bytes())
    except (OSError, ValueError):
        return
    for entry in table.values():
        holders = [entry.get("write"), *(entry.get("read") or ())] if isinstance(entry, dict) else []
        for holder in holders:
            if isinstance(holder, dict) and alive(int(holder.get("pid", 0))):
                yield int(holder["pid"])
