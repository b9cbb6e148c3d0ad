"""The inputs of a retrain as they are now: commit, raw data, params.yaml, lock; and how data get into a worktree."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from genfoundry.config.params import MAX_BYTES
from genfoundry.config.pointers import md5
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import digest_of
from genfoundry.core.parts import nearest
from genfoundry.data.embedded.bootstrap import data_difference
from genfoundry.retraining.options import Retraining
from genfoundry.retraining.protocol import Snapshot
from genfoundry.state.checkout import Git

POINTER = "data.dvc"


def parsed(text: str, where: str) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        ConfigError: It is too large, or none.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(text)} characters; more than {MAX_BYTES} are refused")
    try:
        found = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ConfigError(f"{where}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: not a mapping of names to values")
    return found


def pointer_digest(text: str, where: str) -> str:
    """The content digest in a ``.dvc`` file, without the source of the contents."""
    outs = parsed(text, where).get("outs")
    found = [out.get("md5") or out.get("etag") or out.get("checksum") for out in outs or [] if isinstance(out, dict)]
    if not found or not all(found):
        raise DataError(f"{where}: holds no 'outs' with an md5; restore it with git, or run dvc add")
    return str(found[0]) if len(found) == 1 else digest_of(found)


def pointers_at(git: Git, commit: str) -> dict[str, str]:
    """Texts of the ``.dvc`` files of raw data at a commit, by name."""
    listed = git("ls-tree", "--name-only", commit, "./imports/", check=False).splitlines()
    names = [POINTER, *(f"imports/{Path(name).name}" for name in listed if name.endswith(".dvc"))]
    texts = {name: git.text(commit, name) for name in names}
    if texts[POINTER] is None:
        raise ConfigError(f"{POINTER}: not in commit {commit[:12]}; run `dvc add data` and commit it")
    return {name: text for name, text in texts.items() if text is not None}


def pointers_in(folder: Path) -> dict[str, str]:
    """The same of a folder as it lies there."""
    files = [folder / POINTER, *sorted((folder / "imports").glob("*.dvc"))]
    return {file.relative_to(folder).as_posix(): file.read_text() for file in files if file.is_file()}


def take(
    root: Path, options: Retraining, update: Callable[[str, dict[str, str], bool], dict[str, str]] | None
) -> Snapshot:
    """The inputs as they are now; touches nothing.

    Args:
        root: The project.
        options: ``branch``, ``data`` and ``models`` count here.
        update: Brings new data: from commit, pointers and whether data/ of the workspace is wanted to new pointers.
            None: what it would bring is left out.
    """
    git = Git(root)
    commit = git.commit_of(options.branch)
    texts = pointers_at(git, commit)
    digests = {name: pointer_digest(text, name) for name, text in texts.items()}
    workspace = options.data == "workspace"
    changed: dict[str, str] = {}
    if workspace:
        if not (root / "data").is_dir():
            raise DataError(f"{root / 'data'}: no such folder; retraining.data is workspace: put the data there")
        _without_links(root / "data")
        changed = {name: text for name, text in pointers_in(root).items() if name != POINTER}
        digests = {name: pointer_digest(text, name) for name, text in changed.items()} | {POINTER: md5(root / "data")}
    if update:
        changed = update(commit, changed, workspace)
        digests = {name: pointer_digest(text, name) for name, text in changed.items()}
        changed, workspace = {name: text for name, text in changed.items() if texts.get(name) != text}, False
    params = git.text(commit, "params.yaml")
    if params is None:
        raise ConfigError(f"params.yaml: not in commit {commit[:12]}; commit it")
    facts: dict[str, Any] = {"branch": options.branch or git("rev-parse", "--abbrev-ref", "HEAD")}
    # Uncommitted changes do not take part; the journal records that there were some.
    facts["dirty"] = bool(git("status", "--porcelain", "--untracked-files=no", "--", "."))
    facts |= {"pointers": changed} if changed else {}
    facts |= {"workspace": True} if workspace else {}
    return Snapshot(
        commit=commit,
        data=digests,
        params=hashlib.sha256(params.encode()).hexdigest(),
        lock=hashlib.sha256((git.text(commit, "requirements.lock") or "").encode()).hexdigest(),
        models=_models(parsed(params, "params.yaml"), options),
        facts=facts,
    )


def _models(tree: Mapping[str, Any], options: Retraining) -> tuple[str, ...]:
    known = [str(key) for key in tree.get("models") or {}]
    for key in options.models:
        if key not in known:
            raise ConfigError(f"params.yaml: 'retraining.models' names {key!r}{nearest(key, known)}")
    if not known:
        raise ConfigError("params.yaml: 'models' has no block, so there is nothing to retrain")
    return tuple(options.models or known)


def _without_links(folder: Path) -> None:
    """Refuse links to folders and to nothing: DVC versions none of them, so no copy would be what data.dvc says."""
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.is_file():
            what = "a link to a folder, which DVC does not version" if path.is_dir() else "a link to nothing"
            raise DataError(f"{path}: {what}; put the folder or file itself there, or remove the link")


def copy_data(source: Path, target: Path, wanted: str) -> None:
    """Copy data/ as it lies there; what it was when the retrain began is what must arrive.

    Raises:
        DataError: It is being changed.
    """
    for _ in range(2):
        shutil.rmtree(target, ignore_errors=True)
        # cp shares the blocks where the file system can; a copy in any case, so a later edit in place stays outside.
        done = subprocess.run(
            ["cp", "-RL", "--reflink=auto", "--preserve=timestamps", "--", str(source), str(target)],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        if md5(target) == wanted:
            return
    raise DataError(f"{source}: was changed while it was copied (it was {wanted}); run again once it lies still")


def verify(project: Path, wanted: Mapping[str, str]) -> None:
    """Compare the data of a worktree with the snapshot, byte by byte: DVC trusts a corrupt cache (tried).

    Raises:
        DataError: They differ.
    """
    for name, text in pointers_in(project).items():
        if wanted.get(name) != pointer_digest(text, name):
            raise DataError(f"{name}: is not what the retrain began with; run again")
    difference = data_difference(project)
    if difference:
        raise DataError(f"in the retrain's copy, {difference}")
