"""Section `validation`: the data contract of raw records, and the thresholds of drift."""

from typing import Any, Literal

from pydantic import Field

from genfoundry.config.specs import Section


class Expectation(Section):
    """One Great Expectations expectation over the table of records."""

    type: str
    """Name as Great Expectations writes it in suites, such as ``expect_column_values_to_be_between``."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Its arguments, such as ``{column: width, min_value: 8}``."""
    severity: Literal["critical", "warning", "info"] = "critical"
    """Only ``critical`` fails the stage."""


class Drift(Section):
    """Thresholds above which new records have drifted from the accepted ones (``genfoundry accept``).

    A difference counts only if chance alone would show it once in a thousand times at most.
    """

    psi: float = Field(default=0.25, gt=0)
    """Population stability index of a column above which it has drifted; 0.25 as is usual (Siddiqi 2006)."""
    ks: float = Field(default=0.2, gt=0, le=1)
    """Largest difference of the two distribution functions of a number; 0.2 is a shift by half a standard deviation of
    a normal law, as is a PSI of 0.25.
    """
    action: Literal["warn", "error"] = "warn"
    """error: drift, or a column that came or went, fails the stage; warn: it stands on the page and in drift.json."""


class Validation(Section):
    """The data contract of raw records, in addition to the modality's own suite."""

    expectations: tuple[Expectation, ...] = ()
    drift: Drift = Drift()
