"""Charts as inline SVG: sharp at any size, no file beside the page, equal numbers give equal bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from genfoundry.pages import escape, number

WIDTH, LABELS, VALUES, ROW = 860, 190, 190, 30
DOTTED = 40
"""Points up to which a curve also shows each of them."""

COLOURS = ("#2458b3", "#c4572a", "#1f7a4d", "#7a4db3", "#8a6d1f", "#b3265e")
SOFT, LINE = "#5b6675", "#dfe4ea"


class Row(NamedTuple):
    """One line of an interval chart."""

    label: str
    value: float
    low: float
    high: float
    text: str
    """What stands behind the line."""
    is_model: bool
    """Models are dots with error bars; what they are held against are hollow diamonds."""


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two bounds, about as many as wanted."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [place * step for place in range(first, last + 1)]


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#1d2430", size: int = 13) -> str:
    place = f"x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'"
    return f"<text {place} fill='{colour}' font-size='{size}'>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='{width:g}'/>"


def _svg(width: int, height: float, what: str, parts: Sequence[str]) -> str:
    return (
        f"<svg viewBox='0 0 {width} {height:.0f}' width='{width}' role='img' aria-label='{escape(what)}' "
        f"style='max-width:100%;height:auto;display:block;margin:6px 0'>{''.join(parts)}</svg>"
    )


def intervals(what: str, rows: Sequence[Row]) -> str:
    """Values one below the other on a common axis, with their error bars."""
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    right = WIDTH - VALUES
    bottom = ROW * len(rows) + 6

    def place(value: float) -> float:
        return LABELS + (value - low) / (high - low) * (right - LABELS)

    parts = []
    for tick in ticks(low, high):
        parts += [_line(place(tick), 4, place(tick), bottom, LINE)]
        parts += [_text(place(tick), bottom + 16, f"{tick:.6g}", "middle", SOFT, 12)]
    for order, row in enumerate(rows):
        y, colour = ROW * order + ROW / 2 + 4, COLOURS[0] if row.is_model else SOFT
        parts.append(_text(LABELS - 12, y + 4, row.label, "end", "#1d2430" if row.is_model else SOFT))
        parts.append(_line(place(row.low), y, place(row.high), y, "#9db6dd" if row.is_model else LINE, 6))
        x = place(row.value)
        if row.is_model:
            parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5.5' fill='{colour}'/>")
        else:
            diamond = f"{x - 6:.1f},{y:.1f} {x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f}"
            parts.append(f"<polygon points='{diamond}' fill='#fff' stroke='{colour}' stroke-width='1.6'/>")
        parts.append(_text(right + 14, y + 4, row.text, "start", "#1d2430" if row.is_model else SOFT))
    return _svg(WIDTH, bottom + 22, what, parts)


def curves(what: str, series: Mapping[str, Sequence[tuple[float, float]]], width: int = 520, height: int = 220) -> str:
    """Lines over steps; finite points only."""
    points = [point for line in series.values() for point in line]
    left, right, top, bottom = 54, width - 10, 24, height - 26
    x_high = max(x for x, _ in points) or 1.0
    low, high = min(y for _, y in points), max(y for _, y in points)
    pad = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / x_high * (right - left), bottom - (y - low) / (high - low) * (bottom - top)

    parts = []
    for tick in ticks(low, high, 4):
        y = place(0, tick)[1]
        parts += [_line(left, y, right, y, LINE), _text(left - 6, y + 4, f"{tick:.6g}", "end", SOFT, 11)]
    for tick in ticks(0, x_high, 5):
        parts.append(_text(place(tick, low)[0], bottom + 16, number(tick), "middle", SOFT, 11))
    for order, (name, line) in enumerate(series.items()):
        colour = COLOURS[order % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'/>")
        if len(line) <= DOTTED:
            dots = (place(*point) for point in line)
            parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.4' fill='{colour}'/>" for x, y in dots]
        parts.append(_text(left + 120 * order, 14, f"— {name}", "start", colour, 12))
    return _svg(width, height, what, parts)
