"""Show samples next to their nearest training records, to judge memorization by eye.

``pairs.png`` and ``pairs.json`` hold the ten most suspicious samples; ``distances.png`` says how suspicious that is, by
held-out records measured in the same way. Pictures by their features (``nearness``), texts by the longest run that
stands word for word in a training document.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.evaluation.details import write_pairs
from genfoundry.evaluation.evidence import Evidence
from genfoundry.evaluation.extraction.documents import Documents
from genfoundry.evaluation.rivals import cut_like
from genfoundry.metrics._copies import exact_copy_share, nearness, usual_k
from genfoundry.metrics._overlap import longest_common_runs
from genfoundry.modalities.common.lookup import media_of
from genfoundry.modalities.common.media import GridMedia
from genfoundry.modalities.common.tokens import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIRS = 10
"""Pairs that are shown."""

AROUND = 40
"""Tokens of the training document that are shown on either side of a run."""

SAMPLES, HELD_OUT, SOFT = "#2458b3", "#8a94a3", "#5b6675"

PICTURES = ("sample_levels", "train_levels", "features", "train_features", "reference_features")
TEXTS = ("sample_tokens", "train_documents", "reference_tokens")


def write_nearest(folder: Path, evidence: Evidence) -> None:
    """Write what the evidence allows into a folder that is being published; nothing where there are no samples."""
    if all(map(evidence.has, PICTURES)):
        media = media_of(evidence.spec)
        assert isinstance(media, GridMedia)
        write_pictures(folder, *(evidence[name] for name in PICTURES), *_ids(evidence), picture=media.picture)
    elif all(map(evidence.has, TEXTS)):
        tokenizer = load(evidence.folders["arrays"])
        samples, documents, held_out = (evidence[name] for name in TEXTS)
        write_texts(folder, samples, documents, cut_like(held_out, samples), *_ids(evidence), decode=tokenizer.decode)


def _ids(evidence: Evidence) -> tuple[list[str], list[str]]:
    """Ids of the samples and of the training records, by row."""
    files = (("samples", "index.parquet"), ("index", "train.parquet"))
    samples, training = (evidence.table(place, file, ["row", "id"]) for place, file in files)  # type: ignore[arg-type]
    return samples.sort_values("row")["id"].tolist(), training.sort_values("row")["id"].tolist()


def write_pictures(
    folder: Path,
    sample_levels: np.ndarray,
    train_levels: np.ndarray,
    features: Any,
    train_features: Any,
    reference_features: Any,
    sample_ids: Sequence[str],
    train_ids: Sequence[str],
    picture: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Write ``pairs.png``, ``pairs.json`` and ``distances.png`` for grids.

    Args:
        folder: Where to.
        sample_levels: Stored levels (N, C, *shape).
        train_levels: Stored levels (L, C, *shape).
        features: (N, D) of the samples.
        train_features: (L, D) of the training records.
        reference_features: (M, D) of held-out records.
        sample_ids: Of the N samples.
        train_ids: Of the L training records.
        picture: One record as a picture: uint8 (H, W) or (H, W, 3) of stored levels (C, *shape).
    """
    k = max(usual_k(len(train_features)), min(2, len(train_features) - 1))
    held_out, _ = nearness(reference_features, train_features, k)
    ratios, found = nearness(features, train_features, k)
    exact = exact_copy_share(sample_levels, train_levels).source
    rows = _suspicious(ratios, found.rows, exact)
    pairs = [
        {
            "sample": sample_ids[row],
            "training": train_ids[first],
            "next": train_ids[further],
            "exact": bool(exact[row] >= 0),
            "distance": _short(found.distances[row, 0] * found.scale),
            "ratio": _short(ratios[row]),
            "held_out_share": _short(np.mean(held_out <= ratios[row])),
        }
        for row, first, further in rows
    ]
    shown = [
        tuple(picture(np.asarray(one)) for one in (sample_levels[row], train_levels[first], train_levels[further]))
        for row, first, further in rows
    ]
    _draw_pairs(folder / "pairs.png", pairs, shown)
    write_pairs(folder, kind="pictures", neighbours=k, pairs=pairs)
    _draw_shares(
        folder / "distances.png",
        ratios,
        held_out,
        f"distance to the nearest training record over the mean to its {k} nearest",
        "copies lie at the left, near 0",
    )


def _suspicious(ratios: np.ndarray, neighbours: np.ndarray, exact: np.ndarray) -> list[tuple[int, int, int]]:
    """Sample, training record and next record of the pairs to show: exact copies first, then the nearest."""
    rows = []
    for row in np.lexsort((np.arange(len(ratios)), ratios, exact < 0))[:PAIRS].tolist():
        # A twin in features may be another picture: show the copy itself.
        first = int(neighbours[row, 0] if exact[row] < 0 else exact[row])
        rows.append((row, first, next((int(other) for other in neighbours[row] if other != first), first)))
    return rows


def _short(value: Any) -> float:
    """Six digits: what is beyond differs between processors."""
    return float(f"{float(value):.6g}")


def write_texts(
    folder: Path,
    sample_tokens: Sequence[Sequence[int]],
    documents: Documents,
    held_out: Sequence[Sequence[int]],
    sample_ids: Sequence[str],
    train_ids: Sequence[str],
    decode: Callable[[list[int]], str],
) -> None:
    """Write ``pairs.json`` and ``distances.png`` for texts.

    Each pair holds ``tokens``, the length of the run; ``held_out_share`` of held-out texts have a run as long. Of the
    sample and of the training record stand ``id`` and the text ``before``, in (``run``) and ``after`` the run.

    Args:
        folder: Where to.
        sample_tokens: N token sequences without boundary.
        documents: The training documents.
        held_out: Token sequences of held-out text, cut to the samples' lengths.
        sample_ids: Of the N samples.
        train_ids: Of the training documents.
        decode: From tokens to text.
    """
    runs = longest_common_runs(sample_tokens, documents.tokens, documents.offsets)
    theirs = longest_common_runs(held_out, documents.tokens, documents.offsets).lengths if len(held_out) else None
    order = np.lexsort((np.arange(len(runs.lengths)), -runs.lengths))[:PAIRS]
    pairs = []
    for row in order[runs.lengths[order] > 0].tolist():
        length, start, document, place = (int(column[row]) for column in runs)
        first, last = documents.offsets[document], documents.offsets[document + 1]
        sample = list(sample_tokens[row])
        record = np.asarray(documents.tokens[max(first, place - AROUND) : min(last, place + length + AROUND)]).tolist()
        pairs.append(
            {
                "tokens": length,
                "held_out_share": None if theirs is None else _short(np.mean(theirs >= length)),
                "sample": {"id": sample_ids[row], **_cut(sample, start, length, decode)},
                "training": {"id": train_ids[document], **_cut(record, min(AROUND, place - first), length, decode)},
            }
        )
    write_pairs(folder, kind="texts", pairs=pairs)
    _draw_shares(
        folder / "distances.png",
        runs.lengths,
        theirs,
        "longest run of tokens that stands in a training document",
        "copies lie at the right",
    )


def _cut(tokens: list[int], start: int, length: int, decode: Callable[[list[int]], str]) -> dict[str, str]:
    parts = {"before": tokens[:start], "run": tokens[start : start + length], "after": tokens[start + length :]}
    return {name: decode(part) for name, part in parts.items()}


def _draw_shares(path: Path, ours: np.ndarray, theirs: np.ndarray | None, label: str, hint: str) -> None:
    """The share of samples and of held-out records at or below each value."""
    figure = _figure(6.4, 3.0)
    axes = figure.add_axes((0.1, 0.2, 0.87, 0.66))
    sides = [(ours, "samples", SAMPLES, 2.0)]
    if theirs is not None:
        sides.append((theirs, "held-out records", HELD_OUT, 1.6))
    for values, name, colour, width in sides:
        line = np.sort(np.asarray(values, dtype=np.float64))
        line = np.concatenate([line[:1], line])
        axes.step(line, np.arange(len(line)) / (len(line) - 1), where="post", label=name, color=colour, linewidth=width)
    axes.set_xlabel(label, fontsize=9)
    axes.set_ylabel("share at or below", fontsize=9)
    axes.set_ylim(-0.02, 1.02)
    axes.set_title(f"nearest training records ({hint})", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=9)
    _save(figure, path)


def _draw_pairs(path: Path, pairs: Sequence[dict[str, Any]], pictures: Sequence[tuple[np.ndarray, ...]]) -> None:
    """A line for each pair: the sample, the nearest training record, the next one, and what was measured."""
    side, gap, head, width = 0.9, 0.12, 0.35, 7.6
    height = head + len(pairs) * (side + gap)
    figure = _figure(width, height)
    for column, name in enumerate(("sample", "nearest in training", "next nearest")):
        figure.text((0.1 + column * 1.3) / width, 1 - 0.22 / height, name, fontsize=9, color=SOFT)
    for number, (pair, shown) in enumerate(zip(pairs, pictures, strict=True)):
        bottom = 1 - (head + (number + 1) * (side + gap) - gap) / height
        for column, picture in enumerate(shown):
            box = ((0.1 + column * 1.3) / width, bottom, side / width, side / height)
            axes = figure.add_axes(box)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        facts = [
            f"{pair['sample']}  →  {pair['training']}",
            "an exact copy, byte for byte"
            if pair["exact"]
            else f"distance {pair['distance']:.4g}, ratio {pair['ratio']:.3f}",
            f"{pair['held_out_share']:.1%} of held-out records lie as near",
        ]
        for line, words in enumerate(facts):
            figure.text(
                4.1 / width,
                bottom + (side - 0.25 - 0.24 * line) / height,
                words,
                fontsize=9,
                color=SAMPLES if pair["exact"] and line == 1 else SOFT if line else "black",
                parse_math=False,
            )
    _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110)


def _save(figure: "Figure", path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
