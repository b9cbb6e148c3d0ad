"""Assign records to splits: given (folder, column), drawn by hash, or by position in time or in the source.

A draw depends on the content or the group alone, so it does not move when data grow, and copies are drawn alike.
Places are borders between older and newer records: they move with new data, unless the settings name them.
"""

import hashlib
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.config.sections.split import Split
from genfoundry.config.specs import FILE, SPLITS, file_of
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_records, record_columns

if TYPE_CHECKING:
    import pandas as pd

GAP = len(SPLITS)
"""Place of a record that is left out between two splits; the others are numbers of ``SPLITS``."""

COLUMNS = {"time": "time", "group": "group"}
"""Column that a way to divide needs."""


class Plan(NamedTuple):
    """Facts of the whole data set that splitting one shard needs."""

    known: frozenset[str]
    """Splits that some record is given."""
    places: list[np.ndarray | None]
    """For each shard, uint8 (records,): the place of each record; None where splits are drawn."""


def draw(sha256: str, config: Split) -> str:
    """The split that a hash draws: ``test``, ``val`` or ``train``."""
    digest = hashlib.sha256(f"{config.salt}:{sha256}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test:
        return "test"
    return "val" if place < config.test + config.val else "train"


def draw_group(group: object, config: Split) -> str:
    """The split of a group's records."""
    return draw(hashlib.sha256(str(group).encode()).hexdigest(), config)


def assign(given: object, drawn: str, known: Container[str]) -> str:
    """The split of a record; ``known`` holds the splits that any record of the data set is given.

    Many published sets come as train and test alone: what nobody is given is drawn from the records given to train.
    """
    if not isinstance(given, str):
        return drawn
    return drawn if given == "train" and drawn not in known else given


def plan(folder: Path, config: Split, where: str) -> Plan:
    """Read the columns that splitting needs of all records, without content.

    Raises:
        DataError: A column is missing or has gaps, or a border would run through records of the same time.
    """
    import pandas as pd

    names = record_columns(folder)
    wanted = ["id", "split", *([COLUMNS[config.by]] if config.by in COLUMNS else [])]
    if config.by == "contiguous":
        wanted += [name for name in (FILE, "source") if name in names]
    for name in wanted if names else []:
        if name not in names:
            raise DataError(
                f"{where}: split.by is {config.by}, but records have no column {name!r}; "
                f"name it in ingest.{name}_column, or divide by another rule"
            )
    if config.by == "hash":
        wanted.remove("id")
    shards = list(read_records(folder, wanted))
    if not shards:
        return Plan(frozenset(), [])
    table = pd.concat(shards, ignore_index=True)
    known = frozenset(table["split"].dropna())
    if config.by in COLUMNS:
        _complete(table, COLUMNS[config.by], config, where)
    if config.by in ("hash", "group"):
        return Plan(known, [None] * len(shards))
    free = table["split"].isna() | (table["split"] == "train")
    shares = {name: 0.0 if name in known else getattr(config, name) for name in ("val", "test")}
    places = np.zeros(len(table), np.uint8)
    chosen = table[free]
    by = _by_time if config.by == "time" else _contiguous
    places[np.flatnonzero(free)] = by(chosen, config, shares["val"], shares["test"], where)
    return Plan(known, np.split(places, np.cumsum([len(shard) for shard in shards])[:-1]))


def splits_of(records: "pd.DataFrame", clean: "pd.DataFrame", config: Split, plan: Plan, shard: int) -> list[str]:
    """The split of each clean record of a shard; empty for one that is left out at a border.

    Args:
        records: The shard as it was read, all rows.
        clean: Those of its records that stay.
        config: How they are divided.
        plan: For the whole data set.
        shard: Number of the shard in the plan.
    """
    places = plan.places[shard]
    if places is not None:
        names = np.array([*SPLITS, ""], object)[places]
        drawn = clean["id"].map(dict(zip(records["id"], names, strict=True)))
        return [name and assign(given, name, plan.known) for given, name in zip(clean["split"], drawn, strict=True)]
    if config.by == "group":
        groups = clean["id"].map(dict(zip(records["id"], records["group"], strict=True)))
        drawn = [draw_group(group, config) for group in groups]
    else:
        drawn = [draw(digest, config) for digest in clean["sha256"]]
    return [assign(given, name, plan.known) for given, name in zip(clean["split"], drawn, strict=True)]


def _complete(table: "pd.DataFrame", column: str, config: Split, where: str) -> None:
    missing = table["id"][table[column].isna() | (table[column].astype("str") == "")]
    if len(missing):
        raise DataError(
            f"{where}: {len(missing)} of {len(table)} records have no {column}, such as "
            f"{', '.join(missing.head(3))}; split.by: {config.by} needs one for each"
        )


def moments(values: "pd.Series") -> "tuple[pd.Series, bool]":
    """(moments that can be compared, whether they are plain numbers); NaN for what is no time."""
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce") if values.dtype.kind != "M" else None
    if numbers is not None and numbers.notna().all():
        return numbers.astype("float64"), True
    times = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601").dt.as_unit("us")
    return times.astype("int64").astype("float64").where(times.notna()), False


def _by_time(table: "pd.DataFrame", config: Split, val: float, test: float, where: str) -> np.ndarray:
    import pandas as pd

    times, numbers = moments(table["time"])
    if times.isna().any():
        wrong = table[times.isna()].head(3)
        shown = ", ".join(f"{row.id} ({row.time!s:.30})" for row in wrong.itertuples())
        raise DataError(
            f"{where}: {int(times.isna().sum())} times are neither numbers nor ISO 8601, such as {shown}; fix them"
        )
    values = times.to_numpy()
    borders = {}
    for name in ("val_from", "test_from"):
        if text := getattr(config, name):
            moment, number = moments(pd.Series([text]))
            if moment.isna().any() or number != numbers:
                kind = "a number" if numbers else "a time in ISO 8601"
                raise ConfigError(f"params.yaml: '{where}.split.{name}' is {text!r}; needs {kind}, as the records have")
            borders[name] = moment[0]
    if borders:
        places = np.where(values >= borders["test_from"], SPLITS.index("test"), SPLITS.index("train"))
        begins = borders.get("val_from", borders["test_from"])
        return np.where((places == 0) & (values >= begins), SPLITS.index("val"), places).astype(np.uint8)
    ordered = np.sort(values)
    places = np.zeros(len(values), np.uint8)
    taken = 0.0
    for name, share in (("test", test), ("val", val)):
        taken += share
        place = len(values) - round(taken * len(values)) - 1
        if share and place >= 0:
            # Records of the border's own time all go to the older side.
            mine = (values > ordered[place]) & (places == 0)
            if not share / 2 <= mine.mean():
                alike = int((values == ordered[place]).sum())
                raise DataError(
                    f"{where}: {alike} records have the same time where split {name} would begin, which leaves it "
                    f"{int(mine.sum())} of {len(values)}; give finer times, another share, or split.{name}_from"
                )
            places[mine] = SPLITS.index(name)
    return places


def _contiguous(table: "pd.DataFrame", config: Split, val: float, test: float, where: str) -> np.ndarray:
    """By the place of each record among those of its source, in the order in which they were read."""
    import pandas as pd

    source = table["id"].map(file_of)
    for name in (FILE, "source"):
        source = table[name].fillna(source) if name in table else source
    codes = pd.factorize(source, use_na_sentinel=False)[0]
    sizes = np.bincount(codes)[codes]
    order = pd.Series(codes).groupby(codes).cumcount().to_numpy()

    def place(number: np.ndarray) -> np.ndarray:
        middle = (number + 0.5) / sizes
        return np.where(middle >= 1 - test, SPLITS.index("test"), np.where(middle >= 1 - test - val, 1, 0))

    places = place(order)
    for step in range(1, config.gap + 1):
        later = place(np.minimum(order + step, sizes - 1))
        places = np.where((places != GAP) & (later != places), GAP, places)
    return places.astype(np.uint8)
