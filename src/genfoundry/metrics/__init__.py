"""Metrics, one file each, and the arithmetic behind them as public functions on arrays, without the pipeline.

``from genfoundry.metrics import frechet_distance`` takes numpy arrays, lists or torch tensors and computes in float64.
The table below is read when a name is first asked for, so that a metric's file costs no import of the others.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genfoundry.metrics._copies import authenticity as authenticity_share
    from genfoundry.metrics._copies import exact_copy_share, near_copy_share, nearest, nearness
    from genfoundry.metrics._frechet import (
        frechet,
        frechet_distance,
        frechet_distance_from_moments,
        frechet_distance_from_statistics,
        frechet_extrapolated,
    )
    from genfoundry.metrics._inception import inception_score
    from genfoundry.metrics._kernel import kernel_distance
    from genfoundry.metrics._moments import Moments
    from genfoundry.metrics._neighbours import precision_recall_density_coverage
    from genfoundry.metrics._overlap import copied_grams, longest_common_runs
    from genfoundry.metrics._paired import (
        paired_frechet_difference,
        paired_kernel_difference,
        paired_mean_difference,
        paired_ratio_difference,
    )
    from genfoundry.metrics._ranking import davidson, krippendorff_alpha, wilson_interval
    from genfoundry.metrics._text import (
        bits_per_unit,
        count_units,
        nats_from_logits,
        perplexity_per_unit,
        score_sliding,
        text_scores,
    )
    from genfoundry.metrics._windows import sliding_windows

_PUBLIC = {
    "Moments": "_moments",
    # The metric's file has the plain name.
    "authenticity_share": "_copies.authenticity",
    "bits_per_unit": "_text",
    "copied_grams": "_overlap",
    "count_units": "_text",
    "davidson": "_ranking",
    "exact_copy_share": "_copies",
    "frechet": "_frechet",
    "frechet_distance": "_frechet",
    "frechet_distance_from_moments": "_frechet",
    "frechet_distance_from_statistics": "_frechet",
    "frechet_extrapolated": "_frechet",
    "inception_score": "_inception",
    "kernel_distance": "_kernel",
    "krippendorff_alpha": "_ranking",
    "longest_common_runs": "_overlap",
    "nats_from_logits": "_text",
    "near_copy_share": "_copies",
    "nearest": "_copies",
    "nearness": "_copies",
    "paired_frechet_difference": "_paired",
    "paired_kernel_difference": "_paired",
    "paired_mean_difference": "_paired",
    "paired_ratio_difference": "_paired",
    "perplexity_per_unit": "_text",
    "precision_recall_density_coverage": "_neighbours",
    "score_sliding": "_text",
    "sliding_windows": "_windows",
    "text_scores": "_text",
    "wilson_interval": "_ranking",
}
"""Where each name lives: a module, or module and name in it."""

__all__ = [
    "Moments",
    "authenticity_share",
    "bits_per_unit",
    "copied_grams",
    "count_units",
    "davidson",
    "exact_copy_share",
    "frechet",
    "frechet_distance",
    "frechet_distance_from_moments",
    "frechet_distance_from_statistics",
    "frechet_extrapolated",
    "inception_score",
    "kernel_distance",
    "krippendorff_alpha",
    "longest_common_runs",
    "nats_from_logits",
    "near_copy_share",
    "nearest",
    "nearness",
    "paired_frechet_difference",
    "paired_kernel_difference",
    "paired_mean_difference",
    "paired_ratio_difference",
    "perplexity_per_unit",
    "precision_recall_density_coverage",
    "score_sliding",
    "sliding_windows",
    "text_scores",
    "wilson_interval",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        # The import system tries a submodule next.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
