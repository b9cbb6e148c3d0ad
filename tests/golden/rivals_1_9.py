"""What torchmetrics 1.9 gives for a case where it is wrong: not finite, or off by more than its precision excuses."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class Through(nn.Module):
    """Features that are at hand already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


def _tensor(found: dict[str, Any], name: str) -> Tensor:
    return torch.tensor(found["arguments"][name], dtype=getattr(torch, found["dtype"]))


def _frechet(found: dict[str, Any]) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = _tensor(found, "x"), _tensor(found, "y")
    metric = FrechetInceptionDistance(Through(x.shape[1]), normalize=True)
    metric.update(y, real=True)
    metric.update(x, real=False)
    return float(metric.compute())


def _inception(found: dict[str, Any]) -> float:
    from torchmetrics.image.inception import InceptionScore

    metric = InceptionScore(Through(1), normalize=False, splits=found["arguments"]["splits"])
    metric.update(_tensor(found, "logits"))
    return float(metric.compute()[0])


def _kernel(found: dict[str, Any]) -> float:
    from torchmetrics.image.kid import KernelInceptionDistance

    x, y = _tensor(found, "x"), _tensor(found, "y")
    metric = KernelInceptionDistance(Through(1), subsets=1, subset_size=len(x), normalize=False)
    metric.update(y, real=True)
    metric.update(x, real=False)
    return float(metric.compute()[0])


def _perplexity(found: dict[str, Any]) -> float:
    from torchmetrics.text import Perplexity

    metric = Perplexity(ignore_index=found["arguments"].get("ignore_index"))
    metric.update(_tensor(found, "logits")[None], torch.tensor(found["arguments"]["targets"])[None])
    return float(metric.compute())


def _counted(found: dict[str, Any]) -> float:
    """Its accumulators: it has no update by counts, so its state after the first document is set and the rest added."""
    from torchmetrics.text import Perplexity

    metric = Perplexity()
    nats, units = found["arguments"]["nats"], found["arguments"]["units"]
    for price, count in zip(nats, units, strict=True):
        metric.total_log_probs += price
        metric.count += count
    return float(metric.compute())


def torchmetrics_on(found: dict[str, Any]) -> str | None:
    """Its value in words where it is wrong; None where it is right or doesn't apply."""
    wanted, call = found["wanted"], found["call"]
    # It shuffles rows.
    torch.manual_seed(0)
    if call == "frechet_distance" and found["dtype"] != "int64":
        value = _frechet(found)
        scale = abs(wanted) or 1e-4
    elif call == "inception_score":
        # Its chunks are uneven and its rows shuffled: only one split can be compared.
        if found["arguments"]["splits"] != 1:
            return None
        value, wanted = _inception(found), wanted[0]
        scale = wanted
    elif call == "kernel_distance" and len(found["arguments"]["x"]) == len(found["arguments"]["y"]):
        value, scale = _kernel(found), abs(wanted)
    elif call == "nats_from_logits":
        value, wanted = _perplexity(found), math.exp(min(wanted[0] / wanted[1], 700))
        scale = wanted
    elif found["name"].startswith("2^24"):
        value, scale = _counted(found), wanted
    else:
        return None
    # Half precision is excused as much as it rounds; 5e-5 is fifty times what is asked of us.
    allowed = 5e-3 if found["dtype"] in ("float16", "bfloat16") else 5e-5
    right = math.isfinite(value) and abs(value - wanted) <= allowed * scale
    return None if right else f"{value:.6g} for {wanted:.6g}"
