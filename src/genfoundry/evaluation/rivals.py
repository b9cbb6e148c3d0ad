"""Baselines of a score: the same metric on real data, or on the n-gram models' NLLs."""

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from genfoundry.evaluation.evidence import CATALOGUE, Evidence
from genfoundry.evaluation.networks import published
from genfoundry.evaluation.subsample import subsample
from genfoundry.metrics._copies import halves

STAND_INS = {
    "features": ("train_features", "reference_features"),
    "logits": ("train_logits", "reference_logits"),
    "sample_levels": ("train_levels", "reference_levels"),
    "sample_labels": ("train_labels", "reference_labels"),
    "sample_tokens": ("train_tokens", "reference_tokens"),
    "sample_texts": (None, "reference_texts"),
    **{f"{name}_logits": (None, f"reference_{name}_logits") for name in published()},
    **{f"{name}_features": (f"train_{name}_features", f"reference_{name}_features") for name in published()},
}
"""Real data in place of samples: where the metric looks at the test records, training records; else these."""

NGRAMS = {"unigram": "unigram_nats", "bigram": "bigram_nats"}


def cut_like(real: Sequence[Sequence[int]], samples: Sequence[Sequence[int]]) -> list[list[int]]:
    """Starts of real documents in a fixed random order, as long as the samples, each document once.

    A sample starts where a document does, so its stand-in must too. Where too few documents are long enough the
    longest samples have none.
    """
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(real)).tolist()
    by_length = sorted(range(len(order)), key=lambda rank: len(real[order[rank]]))
    pool: list[int] = []
    pieces: dict[int, list[int]] = {}
    for place in sorted(range(len(samples)), key=lambda place: -len(samples[place])):
        while by_length and len(real[order[by_length[-1]]]) >= len(samples[place]):
            heapq.heappush(pool, by_length.pop())
        if pool:
            pieces[place] = list(real[order[heapq.heappop(pool)]][: len(samples[place])])
    return [pieces[place] for place in sorted(pieces)]


def _stand_in(evidence: Evidence, name: str, real: str, held_out: bool) -> Any:
    samples, found = evidence[name], evidence[real]
    if name == "sample_tokens" and real == "reference_tokens":
        return cut_like(found, samples)
    # A metric that takes its threshold from the test records takes it from their first half.
    rows = halves(len(found))[1][: len(samples)] if held_out else subsample(len(found), len(samples))
    return found[rows] if isinstance(found, np.ndarray) else [found[row] for row in rows]


def rivals(evidence: Evidence, names: Sequence[str], held_out: bool = False) -> dict[str, dict[str, Any]]:
    """Evidence of each baseline, by its name, in place of the model's own, for a metric that asks for ``names``.

    ``floor``: real data in place of samples, as many or as long. ``unigram``, ``bigram``: their NLLs of the
    same documents in place of the model's.

    Args:
        evidence: About the model.
        names: What the metric's ``score`` takes.
        held_out: Take the test records as floor, though the metric looks at them too (copying: training records
            would be copies of themselves).
    """
    found: dict[str, dict[str, Any]] = {}
    against_test = not held_out and any(name.startswith("reference_") for name in names)
    for name in names:
        real = STAND_INS.get(name, (None, None))[0 if against_test else 1]
        if real is not None and evidence.has(real):
            found.setdefault("floor", {})[name] = _stand_in(evidence, name, real, held_out)
    if "nats" in names:
        found |= {rival: {"nats": evidence[name]} for rival, name in NGRAMS.items() if evidence.has(name)}
    return found


assert all(real in CATALOGUE for pair in STAND_INS.values() for real in pair if real)
