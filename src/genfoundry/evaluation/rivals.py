"""What a score is held against: the same metric on real data, or on the n-gram models' prices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genfoundry.evaluation.evidence import CATALOGUE, Evidence
from genfoundry.evaluation.subsample import subsample

STAND_INS = {
    "features": ("train_features", "reference_features"),
    "logits": ("train_logits", "reference_logits"),
    "sample_tokens": (None, "reference_tokens"),
}
"""Real data in place of samples: where the metric looks at the test records, training records; else these."""

NGRAMS = {"unigram": "unigram_nats", "bigram": "bigram_nats"}


def cut_like(real: Sequence[Sequence[int]], samples: Sequence[Sequence[int]]) -> list[list[int]]:
    """Real documents, in a fixed random order end to end, cut to the lengths of the samples while they last."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(real))
    stream = [token for row in order for token in real[row]]
    pieces, start = [], 0
    for sample in samples:
        if start + len(sample) > len(stream):
            break
        pieces.append(stream[start : start + len(sample)])
        start += len(sample)
    return pieces


def _stand_in(evidence: Evidence, name: str, real: str) -> Any:
    samples, found = evidence[name], evidence[real]
    if isinstance(found, np.ndarray):
        return found[subsample(len(found), len(samples))]
    return cut_like(found, samples)


def rivals(evidence: Evidence, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Evidence that replaces the model's own, by the rival's name, for a metric that asks for ``names``.

    ``floor``: real data in place of samples, as many or as long. ``unigram``, ``bigram``: their prices of the
    same documents in place of the model's.
    """
    found: dict[str, dict[str, Any]] = {}
    against_test = any(name.startswith("reference_") for name in names)
    for name in names:
        real = STAND_INS.get(name, (None, None))[0 if against_test else 1]
        if real is not None and evidence.has(real):
            found.setdefault("floor", {})[name] = _stand_in(evidence, name, real)
    if "nats" in names:
        found |= {rival: {"nats": evidence[prices]} for rival, prices in NGRAMS.items() if evidence.has(prices)}
    return found


assert all(real in CATALOGUE for pair in STAND_INS.values() for real in pair if real)
