"""Cut a source into shards incrementally: a later run reads only what changed.

A source is taken as a row of units: a large file, or small neighbours together, cut by their names so that a file more
changes one unit. A shard is decided by the record it begins with and by the units that it takes records from; both are
stored with it in the cache, and where they are unchanged the cached shard is used, unread.
"""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from genfoundry.config.sections.ingest import Ingest
from genfoundry.core.errors import DataError
from genfoundry.core.io import digest_of, file_digest, read_json, read_table, write_json, write_table
from genfoundry.data.shards.borders import Ends
from genfoundry.data.shards.memo import Memo, fetch, keep
from genfoundry.modalities.common.layout import layout_of
from genfoundry.modalities.common.tables import Part, files, sha256
from genfoundry.modalities.common.values import Kinds

if TYPE_CHECKING:
    import pandas as pd

UNIT = 2 * 2**20
"""Approximate size of a unit in bytes: what is read again when a small file changes."""

MOST = 4
"""A unit ends at any file once it holds this many times ``UNIT``."""

ENTRY = 16 * 1024
"""Bytes added to each file's size, so that a unit holds about a hundred small files at most."""

RECORDS, REJECTED, FACTS = "records.parquet", "rejected.parquet", "facts.json"
"""Files of a shard in the cache."""


class Unit(NamedTuple):
    """Files of a source that are read together."""

    part: Part
    digest: str
    """Digest of names, contents and what folders give; empty without a cache."""


class Place(NamedTuple):
    """A record of the source, by its unit and its number in it."""

    unit: int
    record: int


@dataclass
class Shard:
    """One shard with its rejected records and counts."""

    folder: Path
    """Holds its files."""
    stop: Place
    """Where the next one begins."""
    last: bool
    """Whether it ends with the source."""
    facts: dict[str, Any] = field(default_factory=dict)
    """``records``, ``bytes``, the counts of ``labels`` and given ``splits``, and the ``kinds`` of named columns."""

    @property
    def records(self) -> Path:
        return self.folder / RECORDS

    def rejected(self) -> "pd.DataFrame":
        """Records rejected while the shard was read."""
        return read_table(self.folder / REJECTED)


def units(source: Path, config: Ingest, digests: bool) -> list[Unit]:
    """The units of a source, in its order.

    Args:
        source: File or folder.
        config: Where it takes ids from a column, these must be compared over all files: one unit.
        digests: Whether to hash the files.
    """
    found, groups = files(source), []
    layout = layout_of(source, config, found)
    if getattr(config, "id_column", ""):
        groups = [found]
    else:
        held, group = 0, []
        for name, path in found:
            size = path.stat().st_size + ENTRY
            held += size
            group.append((name, path))
            # A file of s bytes ends a unit with probability s / UNIT, so that units come out at about that size.
            drawn = int(sha256(name)[:12], 16) * UNIT < size << 48
            if drawn or held >= MOST * UNIT:
                groups.append(group)
                held, group = 0, []
        groups += [group] if group else []

    def digest(group: list[tuple[str, Path]]) -> str:
        return digest_of([[name, file_digest(path), layout.split(name), layout.label(name)] for name, path in group])

    return [Unit(Part(tuple(group), layout), digest(group) if digests else "") for group in groups]


class Stream:
    """Records of the units, from any place on."""

    def __init__(self, modality: ModuleType, config: Ingest, parts: Sequence[Unit], ends: Ends) -> None:
        self.modality, self.config, self.units, self.ends = modality, config, parts, ends
        self.place = Place(-1, 0)
        self._clear()

    def _clear(self) -> None:
        self.table: pd.DataFrame | None = None
        self.start = 0
        """Records of the table that are taken."""

    def seek(self, place: Place) -> None:
        """Go to a place; forward in a unit without reading it again."""
        if place.unit != self.place.unit or place.record < self.place.record:
            self.place = Place(place.unit, 0)
            self.tables = self.modality.read(self.units[place.unit].part, self.config)
            self._clear()
        while self.place.record < place.record:
            if self.table is None or self.start == len(self.table):
                if self._pull() is None:
                    names = ", ".join(name for name, _ in self.units[place.unit].part.files[:3])
                    raise DataError(f"{names}: fewer records than before; was it changed while it was read?")
                continue
            self._take(min(len(self.table) - self.start, place.record - self.place.record))

    def _pull(self) -> "pd.DataFrame | None":
        """The next table of records; its rejected rows are collected."""
        pair = next(self.tables, None)
        if pair is None:
            return None
        self.table, rejected = pair
        self.start = 0
        self.sizes, self.small = self.ends.marks(self.table)
        return rejected

    def _take(self, count: int) -> "pd.DataFrame":
        assert self.table is not None
        taken = self.table.iloc[self.start : self.start + count]
        self.start += count
        self.place = Place(self.place.unit, self.place.record + count)
        return taken

    def shard(self) -> "tuple[list[pd.DataFrame], list[pd.DataFrame], bool]":
        """Tables of records and of rejected ones up to the end of a shard, and whether the source ends there."""
        records: list[pd.DataFrame] = []
        rejected: list[pd.DataFrame] = []
        self.ends.held = 0
        while True:
            if self.table is None or self.start == len(self.table):
                # Rejected rows belong to the shard that the table's first record goes to.
                away = self._pull()
                if away is not None:
                    rejected.append(away)
                elif self.place.unit + 1 < len(self.units):
                    self.seek(Place(self.place.unit + 1, 0))
                else:
                    return records, rejected, True
                continue
            count = self.ends.next(self.sizes[self.start :], self.small[self.start :])
            records.append(self._take(count or len(self.table) - self.start))
            if count:
                return records, rejected, False


def shards(modality: ModuleType, source: Path, config: Ingest, work: Path, memo: Memo) -> Iterator[Shard]:
    """The shards of a source in order, each in a folder below ``work``.

    The last one may be without records.
    """
    parts = units(source, config, memo.limit > 0)
    stream = Stream(modality, config, parts, Ends(config.shard * 2**20, config.shard_records))
    place, number, last = Place(0, 0), 0, False
    basis = {"modality": modality.__name__, "ingest": config.model_dump(mode="json", exclude={"max_rejected"})}
    while not last:
        key = {**basis, "unit": parts[place.unit].digest, "record": place.record}
        target = work / f"{number:06d}"
        shard = _kept(memo, key, target, parts, place)
        if shard is None:
            stream.seek(place)
            shard = _made(stream, target, place, parts)
            keep(memo, key, target)
        yield shard
        place, number, last = shard.stop, number + 1, shard.last


def _kept(memo: Memo, key: Any, target: Path, parts: Sequence[Unit], place: Place) -> Shard | None:
    """The cached shard that begins here, if its inputs are unchanged."""
    if not fetch(memo, key, target):
        return None
    facts = read_json(target / FACTS)
    stop = place.unit + facts["units"]
    if _through(parts, place.unit, stop) == facts["through"] and (stop == len(parts) or not facts["last"]):
        return Shard(target, Place(stop - 1, facts["stop"]), facts["last"], facts)
    shutil.rmtree(target)
    return None


def _through(parts: Sequence[Unit], first: int, stop: int) -> str:
    """Digest of the units that a shard takes records from."""
    return digest_of([unit.digest for unit in parts[first:stop]])


def _made(stream: Stream, target: Path, place: Place, parts: Sequence[Unit]) -> Shard:
    import pandas as pd

    tables, rejected, last = stream.shard()
    stop = stream.place
    target.mkdir(parents=True)
    tables = [table for table in tables if len(table)]
    facts: dict[str, Any] = {"records": 0, "bytes": 0, "labels": {}, "splits": {}, "kinds": {}}
    if tables:
        kinds = Kinds()
        for part in tables:
            kinds.merge(part.attrs.get("kinds", {}))
        kinds.check("ingest")
        table = pd.concat(tables, ignore_index=True)
        facts = {
            "records": len(table),
            "bytes": sum(map(_bytes, table["content"])),
            "labels": dict(Counter(table["label"].dropna())),
            "splits": dict(Counter(table["split"].dropna())),
            "kinds": kinds.found,
        }
        write_table(target / RECORDS, table)
    away = pd.concat(rejected, ignore_index=True) if rejected else pd.DataFrame(columns=["id", "reason", "detail"])
    write_table(target / REJECTED, away.astype("str"))
    count = stop.unit - place.unit + 1
    facts.update(units=count, through=_through(parts, place.unit, stop.unit + 1), stop=stop.record, last=last)
    write_json(target / FACTS, facts)
    return Shard(target, stop, last, facts)


def _bytes(content: bytes | str) -> int:
    return len(content.encode()) if isinstance(content, str) else len(content)
