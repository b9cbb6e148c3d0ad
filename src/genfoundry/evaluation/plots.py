"""Plot one model's scores with error bars, next to their baselines."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genfoundry.core.io import publish_file
from genfoundry.evaluation.evidence import Evidence
from genfoundry.metrics._record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODEL, RIVALS, SOFT = "#2458b3", "#8a94a3", "#5b6675"
NAMES = {"floor": "real data", "unigram": "unigram model", "bigram": "bigram model"}
LINES = (
    ("nats", "this model", MODEL, "o-"),
    ("bigram_nats", NAMES["bigram"], RIVALS, "--"),
    ("unigram_nats", NAMES["unigram"], RIVALS, ":"),
)
DIRECTIONS = {True: "  (higher is better)", False: "  (lower is better)", None: ""}
COLUMNS = 3
"""Panels in a row, at most."""

WIDE = 50
"""Values this many times apart stand on a logarithmic axis."""

BINS = 12
"""Bins of equal numbers of documents along the length."""


def _score(axes: "Axes", record: Record) -> None:
    names = ["this model", *(NAMES.get(rival, rival) for rival in record.rivals)]
    own = {"color": MODEL, "fontsize": 10, "weight": "bold"}
    for row, score in enumerate([record.score, *record.rivals.values()]):
        colour = RIVALS if row else MODEL
        label = f"{score.value:.4g}"
        if math.isfinite(score.se):
            axes.plot(
                np.clip(score.interval, *record.range),
                [row, row],
                color=colour,
                linewidth=3,
                solid_capstyle="butt",
                alpha=0.5,
            )
            unbiased = f", without bias {score.value - score.bias:.4g}" if score.bias else ""
            label += f"{unbiased} ± {1.96 * score.se:.2g}"
        axes.plot([score.value], [row], "D" if row else "o", color=colour, markersize=7)
        style = {"color": SOFT, "fontsize": 9} if row else own
        axes.annotate(label, (score.value, row), (0, 9), textcoords="offset points", ha="center", **style)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.margins(x=0.25)
    values = [record.score.value, *(score.value for score in record.rivals.values())]
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_xscale("log")
    axes.set_title(f"{record.name}{DIRECTIONS[record.protocol['higher_is_better']]}", loc="left", fontsize=11)


def _by_length(axes: "Axes", evidence: Evidence) -> None:
    size = evidence["byte_counts"].astype(np.float64)
    order = np.argsort(size, kind="stable")
    bins = [rows for rows in np.array_split(order, BINS) if len(rows) and size[rows].sum() > 0]
    for name, label, colour, style in LINES:
        if evidence.has(name):
            bits = [evidence[name][rows].sum() / size[rows].sum() / math.log(2) for rows in bins]
            axes.plot([np.median(size[rows]) for rows in bins], bits, style, color=colour, label=label, markersize=4)
    axes.set_xscale("log")
    axes.set_xlabel("bytes of the document")
    axes.set_title("bits per byte by length of the document", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper right")
    axes.margins(y=0.25)


def write_plot(path: Path, records: Sequence[Record], evidence: Evidence) -> None:
    """Publish the picture; equal scores give equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lengths = evidence.has("nats")
    panels = len(records) + lengths
    rows = math.ceil(panels / COLUMNS)
    columns = math.ceil(panels / rows)
    figure = Figure(figsize=(4.6 * columns, 2.7 * rows + 0.4), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, record in zip(grid, records, strict=False):
        _score(axes, record)
    if lengths:
        _by_length(grid[len(records)], evidence)
    for axes in grid[panels:]:
        axes.set_axis_off()
    for axes in grid[:panels]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
    with publish_file(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
