"""Windows over a sequence longer than a model's context, each token scored once.

Apart from the other text functions, because extraction reads documents by it and must not run again when they change.
"""

from typing import NamedTuple

from genfoundry.core.errors import ConfigError


class Span(NamedTuple):
    """One reading of a sequence whose position 0 is its start symbol: ``begin`` to ``end`` are shown, both included."""

    begin: int
    first: int
    """First position that is scored, after ``begin``; those before it are context."""
    end: int
    """Last position that is scored."""


def sliding_windows(length: int, window: int, stride: int) -> list[Span]:
    """Readings that score positions 1 to ``length`` once each: the first window whole, then by ``stride``.

    Position 0 is the start symbol, given and never scored. A reading scores at most ``window`` tokens from the
    ``window`` positions before them, so each token sees all before it, or at least ``window - stride + 1`` of it. The
    last reading scores what is left, and begins as far to the left as the window allows: the rule of lm-eval
    (``get_rolling_token_windows``).

    Args:
        length: Tokens to score; 0 gives no reading.
        window: Most tokens that the model reads at once, the given one included.
        stride: Tokens that are newly scored by each reading after the first, from 1 to ``window``.

    Raises:
        ConfigError: A window below 1, or a stride below 1 or above the window, which would skip tokens.
    """
    if window < 1 or not 1 <= stride <= window:
        raise ConfigError(
            f"sliding_windows: window {window}, stride {stride}; give a window of at least 1 and a stride from 1 to it"
        )
    spans, scored = [], 0
    while scored < length:
        end = min(scored + stride if spans else window, length)
        spans.append(Span(max(end - window, 0), scored + 1, end))
        scored = end
    return spans
