"""The page of a reference: quality of the feature network or of the n-gram baselines."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from genfoundry.config.specs import GridSpec, read_spec
from genfoundry.core.pages import escape, table, tiles, write_page
from genfoundry.core.paths import DatasetPaths
from genfoundry.evaluation import charts
from genfoundry.evaluation.calibration import Calibration, calibration, confusion
from genfoundry.evaluation.extraction.documents import read_documents

MOST_CLASSES = 24
"""Above it the table of confusions is a list of the most frequent ones."""

LISTED = 20

LENGTH_BINS = 10
"""Groups of documents of like length, equally many in each."""


def write_reference_page(paths: DatasetPaths, numbers: Mapping[str, Any]) -> None:
    """Publish ``reference.html`` from a published reference and the numbers of its report."""
    spec = read_spec(paths.arrays)
    parts = _of_grids(paths, spec, numbers) if isinstance(spec, GridSpec) else _of_tokens(paths, numbers)
    lead = (
        "What images look like to the network in whose features samples are scored, and how surely it tells them apart."
        if isinstance(spec, GridSpec)
        else "Two models that a language model must beat: counts of tokens, and counts of pairs of tokens."
    )
    write_page(paths.reports / "reference.html", f"Reference of {paths.key}", lead, *parts)


def _of_grids(paths: DatasetPaths, spec: GridSpec, numbers: Mapping[str, Any]) -> list[str]:
    learnt = numbers["kind"] == "conv"
    head: dict[str, Any] = {
        "features": numbers["dimension"],
        **{f"{split} records": n for split, n in numbers["records"].items()},
    }
    parts = [tiles({"network": "classifier" if learnt else "principal components", **head}), f"<p>{_why(numbers)}</p>"]
    parts.append(f"<p class='soft'>Identity, the sha256 of its weights: <code>{escape(numbers['digest'])}</code></p>")
    if learnt:
        logits = np.load(paths.reference / "test_logits.npy")
        labels = np.load(paths.arrays / "test_labels.npy")
        parts += _confusions(confusion(logits, labels), list(spec.labels))
        parts += _reliability(calibration(logits, labels))
    parts.append(
        "<h2>Floor</h2><p>Real training records in place of samples, as many as there are test records: what a "
    )
    parts.append("model that draws from the true law would score.</p>")
    floor = numbers["floor"]
    parts.append(table(["score", "floor"], [(name, value) for name, value in floor.items() if name != "n"]))
    if numbers.get("networks"):
        rows = [
            (name, kept["dimension"], kept["preprocessing"], kept["digest"][:12])
            for name, kept in numbers["networks"].items()
        ]
        parts += ["<h2>Published networks</h2>", table(["network", "features", "preprocessing", "sha256"], rows)]
    return parts


def _why(numbers: Mapping[str, Any]) -> str:
    if "accuracy" not in numbers:
        return "The records have no labels to learn from, so their principal components are the features."
    errors = (
        f"It errs on {1 - numbers['accuracy']:.1%} of the held-out records, a linear classifier of the pixels on "
        f"{1 - numbers['linear_accuracy']:.1%}"
    )
    if numbers["kind"] == "conv":
        return f"A classifier of the training records alone. {errors}: its features hold more than the pixels do."
    return f"A classifier was trained and not used. {errors}: not clearly better, so principal components are taken."


def _confusions(counts: np.ndarray, names: list[str]) -> list[str]:
    heading = "<h2>What it takes for what</h2>"
    if len(names) <= MOST_CLASSES:
        return [heading, charts.heat("confusion of classes", names, counts.tolist(), ("is", "taken for"))]
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    pairs = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    return [heading, table(["is", "taken for", "n"], [(names[a], names[b], int(wrong[a, b])) for a, b in pairs])]


def _reliability(found: Calibration) -> list[str]:
    points = [charts.Point(held.confidence, held.accuracy, held.low, held.high) for held in found.bins]
    words = (
        f"Expected calibration error {found.error:.4f} ± {1.96 * found.se:.4f} (95 %); {found.if_perfect:.4f} is about "
        "what a perfectly calibrated classifier of these confidences would get. Each point is a bin of confidence with "
        "the 95 % interval of its accuracy, the diagonal is perfect calibration. "
        "A badly calibrated network bends the Inception Score, which is of its probabilities; distances of features it "
        "leaves alone."
    )
    rows = [(f"{held.confidence:.3f}", f"{held.accuracy:.3f}", held.count) for held in found.bins]
    axes = ("how sure it is", "how often it is right")
    chart = charts.measured(
        "reliability diagram",
        {"held-out records": points},
        axes,
        box=(0, 1, 0, 1),
        diagonal=True,
        joined=False,
        size=(420, 400),
    )
    return ["<h2>Calibration</h2>", f"<p>{words}</p>", chart, table(["mean confidence", "accuracy", "n"], rows)]


def _of_tokens(paths: DatasetPaths, numbers: Mapping[str, Any]) -> list[str]:
    counts = {f"{split} documents": count for split, count in numbers["documents"].items()}
    rows = []
    for name, smoothing in (("unigram", "pseudo_count"), ("bigram", "discount")):
        model = numbers[name]
        words = f"{smoothing.replace('_', '-')} {model[smoothing]:g}"
        rows.append((name, model["bits_per_byte"], model["perplexity"], words))
    documents = read_documents(paths.arrays, "test")
    nats = {name: np.load(paths.reference / f"{name}_nats.npy") for name in ("unigram", "bigram")}
    chart = charts.measured(
        "bits per byte by length",
        by_length(nats, documents.bytes),
        ("bytes of a document", "bits per byte"),
        logarithmic=True,
    )
    return [
        tiles(
            {**counts, "training tokens": numbers["tokens"]["train"], "different pairs": numbers["bigram"]["different"]}
        ),
        "<h2>What they pay for the held-out documents</h2>",
        table(["model", "bits per byte", "perplexity per token", "smoothing, best on validation"], rows),
        "<h2>By length of the document</h2><p>Test documents in groups of like length, with 95 % intervals.</p>",
        chart,
    ]


def by_length(
    nats: Mapping[str, np.ndarray], byte_counts: np.ndarray, bins: int = LENGTH_BINS
) -> dict[str, list[charts.Point]]:
    """Bits per byte of groups of documents of like length, at the median length of each group.

    Args:
        nats: NLL of each document by model, float64 (N,), N at least 1.
        byte_counts: int64 (N,).
        bins: Groups, equally many documents in each; fewer where there would be under two in one.

    Returns:
        Points by model; the interval is the ratio estimator's over documents, 95 %.
    """
    order = np.argsort(byte_counts, kind="stable")
    order = order[byte_counts[order] > 0]
    groups = [group for group in np.array_split(order, max(min(bins, len(order) // 2), 1)) if len(group)]
    found: dict[str, list[charts.Point]] = {}
    for name, per_document in nats.items():
        found[name] = []
        for group in groups:
            sizes, bits = byte_counts[group], per_document[group] / math.log(2)
            ratio = float(bits.sum() / sizes.sum())
            gaps = bits - ratio * sizes
            se = float(np.sqrt((gaps**2).sum() * len(group) / max(len(group) - 1, 1)) / sizes.sum())
            median = float(np.median(sizes))
            found[name].append(charts.Point(median, ratio, ratio - 1.96 * se, ratio + 1.96 * se))
    return found
