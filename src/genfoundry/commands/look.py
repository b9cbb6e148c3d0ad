"""What `genfoundry check` sees of raw data: links, splits by folder, keys, files that nothing reads.

It lists each source and tries a few files of each kind, for some seconds at most.
"""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from types import ModuleType

from genfoundry.config import params as settings
from genfoundry.config.sections.ingest import Ingest
from genfoundry.core import parts
from genfoundry.core.errors import DataError
from genfoundry.modalities.common.archives import Found, opened
from genfoundry.modalities.common.layout import Layout, layout
from genfoundry.modalities.common.tables import Part, bare, ending, files
from genfoundry.modalities.common.textfiles import Ingest as TextIngest
from genfoundry.modalities.common.textfiles import lacking

SECONDS = 5.0
"""Longest look at one source, but for the file that is being read when they end."""

KINDS = 12
"""Endings that are tried, the most frequent first."""

TRIES = 3
"""Files of an ending that are tried before it counts as one that nothing reads."""

LONGEST = 256 * 2**20
"""Bytes of a tar archive that is looked into: it is read as a whole."""


def look(root: Path, tree: settings.Settings) -> tuple[list[str], list[str]]:
    """(faults, notes) on the sources of all data sets, one line each."""
    faults: list[str] = []
    notes: list[str] = []
    for key, dataset in tree.datasets.items():
        source = root / dataset.source
        if not source.exists():
            continue
        where, module = f"datasets.{key}: {dataset.source}", parts.load("modalities", dataset.modality)
        if source.is_symlink() and source.is_dir():
            notes.append(f"{where}: a link to a folder, whose files DVC does not version; put the folder itself there")
        deadline = time.monotonic() + SECONDS
        try:
            found = files(source, deadline)
            config = settings.dataset_section(tree, key, Ingest)
            given = layout([name for name, _ in found], config, source.name) if source.is_dir() else Layout({})
            more = _tried(module, found, given, config, deadline)
        except (DataError, OSError) as error:
            if isinstance(error, TimeoutError):
                notes.append(f"{where}: has more files than can be listed in {SECONDS:g} s; ingest looks at the others")
            else:
                faults.append(f"{where}: {error}")
            continue
        faults += [f"{where}: {words}" for fault, words in more if fault]
        notes += [f"{where}: {words}" for fault, words in more if not fault]
    return faults, notes


def _tried(
    module: ModuleType, found: list[tuple[str, Path]], given: Layout, config: Ingest, deadline: float
) -> list[tuple[bool, str]]:
    """(whether it is a fault, words) on the kinds of files, after an attempt to read a few of each."""
    kinds: dict[str, list[tuple[str, Path]]] = {}
    for name, path in found:
        kinds.setdefault(ending(name) or PurePosixPath(bare(name)).suffix.lower(), []).append((name, path))
    more, useless, read = [], {}, 0
    for kind, some in sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))[:KINDS]:
        if time.monotonic() > deadline:
            return [*more, (False, f"kinds of files beyond {read} were not tried in {SECONDS:g} s")]
        if ending(kind) and kind != ".zip" and some[0][1].stat().st_size > LONGEST:
            more.append((False, f"{some[0][0]} is too long to be looked into; ingest does"))
            read += 1
            continue
        keys = list(_keys(kind, some, config, deadline))
        more += keys
        fault = None if any(needed for needed, _ in keys) else _fault(module, some[:TRIES], given, config)
        if fault and fault[0]:
            more.append(fault)
        elif fault:
            useless[kind] = fault[1]
        else:
            read += 1
    lost = sum(len(kinds[kind]) for kind in useless)
    listed = [f"{len(kinds[kind])} files end in {kind or 'nothing'} and give no record, {words}" for kind, words in
              useless.items()]  # fmt: skip
    one_each = not any(ending(kind) or kind in config.TABLES for kind in kinds)
    if useless and not read and not any(fault for fault, _ in more):
        more.append((True, f"no file gives a record: {'; '.join(listed)}"))
    elif one_each and lost > config.max_rejected * len(found):
        allowed = f"ingest.max_rejected allows {config.max_rejected:.1%}"
        more.append((True, f"{lost} of {len(found)} files give no record, {allowed}: {'; '.join(listed)}"))
    elif config.FOLDERS != "program":
        # A source tree holds many files that are no code.
        more += [(False, words) for words in listed]
    return more


def _fault(module: ModuleType, some: list[tuple[str, Path]], given: Layout, config: Ingest) -> tuple[bool, str] | None:
    """Why none of some files gives a record (True: the stage would fail); None if one does."""
    words = ""
    for name, path in some:
        try:
            records, rejected = next(iter(module.read(Part(((name, path),), given), config)))
        except DataError as error:
            return True, str(error)
        if len(records):
            return None
        for row in rejected.head(1).itertuples():
            words = words or f"such as {row.id}: {row.reason} ({row.detail})"
    return False, words or f"such as {some[0][0]}: it holds none"


def _keys(kind: str, some: list[tuple[str, Path]], config: Ingest, deadline: float) -> Iterator[tuple[bool, str]]:
    """Named keys that JSON lines have not, and whether records need them; of several such files the first few."""
    if kind != ".jsonl" or not isinstance(config, TextIngest):
        return
    shown = {True: 0, False: 0}
    for number, (name, path) in enumerate(some):
        if number and time.monotonic() > deadline:
            yield False, f"keys of {len(some) - number} of {len(some)} files in {kind} were not tried in {SECONDS:g} s"
            break
        needed, words = lacking(Found(name, None, None, partial(opened, path, config), path), config)
        if words:
            shown[needed] += 1
            if shown[needed] <= TRIES:
                yield needed, f"{words}; name the right one in ingest"
    for needed, count in shown.items():
        if count > TRIES:
            yield needed, f"{count - TRIES} more files in {kind} lack keys"
