"""Charts as inline SVG: sharp at any size, no file beside the page, equal numbers give equal bytes."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from genfoundry.core.pages import escape, number

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
    """Models are dots with error bars; baselines are hollow diamonds."""


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
    # A bar without bias need not hold its value.
    low, high = min(min(row.low, row.value) for row in rows), max(max(row.high, row.value) for row in rows)
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


class Point(NamedTuple):
    """A measured point with its interval."""

    x: float
    y: float
    low: float
    high: float


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive bounds; powers alone over more than three decades."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 1000 * low else (1,)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def _points(
    line: Sequence[Point], place: Callable[[float, float], tuple[float, float]], colour: str, joined: bool
) -> list[str]:
    """Dots with their error bars, and the line through them."""
    spots = [place(point.x, point.y) for point in line]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    parts = [f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.6'/>"] if joined else []
    for (x, y), point in zip(spots, line, strict=True):
        parts.append(_line(x, place(point.x, point.low)[1], x, place(point.x, point.high)[1], colour, 1.4))
        parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.2' fill='{colour}'/>")
    return parts


def _around(points: Sequence[Point]) -> tuple[float, float, float, float]:
    """A box that holds all points and their intervals, with a margin above and below."""
    xs, lows, highs = [point.x for point in points], [point.low for point in points], [point.high for point in points]
    pad = 0.06 * (max(highs) - min(lows)) or abs(max(highs)) * 0.1 or 1.0
    x_low, x_high = (min(xs), max(xs)) if min(xs) < max(xs) else (xs[0] * 0.9 - 1e-9, xs[0] * 1.1 + 1e-9)
    return x_low, x_high, min(lows) - pad, max(highs) + pad


def measured(
    what: str,
    series: Mapping[str, Sequence[Point]],
    axes: tuple[str, str],
    *,
    box: tuple[float, float, float, float] | None = None,
    diagonal: bool = False,
    logarithmic: bool = False,
    joined: bool = True,
    size: tuple[int, int] = (620, 300),
) -> str:
    """Points with error bars: a quantity as a function of another.

    Args:
        what: Text alternative for screen readers.
        series: Points by name, at least one in all, by rising x.
        axes: Words below the x axis and above the y axis.
        box: Lowest and highest x, lowest and highest y; by default what holds all points.
        diagonal: Whether to draw y = x.
        logarithmic: Whether x, above 0, stands on a logarithmic axis.
        joined: Whether lines join the points.
        size: Width and height in pixels.
    """
    x_low, x_high, y_low, y_high = box or _around([point for line in series.values() for point in line])
    left, right, top, bottom = 62, size[0] - 14, 30, size[1] - 42
    scale = math.log10 if logarithmic else float

    def place(x: float, y: float) -> tuple[float, float]:
        along = (scale(x) - scale(x_low)) / (scale(x_high) - scale(x_low))
        return left + along * (right - left), bottom - (y - y_low) / (y_high - y_low) * (bottom - top)

    parts = []
    for tick in ticks(y_low, y_high):
        y = place(x_low, tick)[1]
        parts += [_line(left, y, right, y, LINE), _text(left - 8, y + 4, f"{tick:.6g}", "end", SOFT, 12)]
    for tick in _log_ticks(x_low, x_high) if logarithmic else ticks(x_low, x_high):
        parts.append(_text(place(tick, y_low)[0], bottom + 16, number(tick), "middle", SOFT, 12))
    parts += [
        _text((left + right) / 2, bottom + 34, axes[0], "middle", SOFT, 12),
        _text(4, 14, axes[1], "start", SOFT, 12),
    ]
    if diagonal:
        low, high = max(x_low, y_low), min(x_high, y_high)
        parts.append(_line(*place(low, low), *place(high, high), SOFT))
    for order, (name, line) in enumerate(series.items()):
        colour = COLOURS[order % len(COLOURS)]
        parts += _points(line, place, colour, joined)
        if len(series) > 1:
            parts.append(_text(right - 120 * order, 14, f"— {name}", "end", colour, 12))
    return _svg(size[0], size[1], what, parts)


def heat(what: str, names: Sequence[str], counts: Sequence[Sequence[int]], axes: tuple[str, str]) -> str:
    """A square table of counts, each cell shaded by its share of the row; those off the diagonal in another colour.

    Args:
        what: Text alternative for screen readers.
        names: Names of rows and columns.
        counts: One sequence a row.
        axes: What rows and what columns are.
    """
    cell, left, top = 40, 130, 54
    width, height = left + cell * len(names) + 8, top + cell * len(names) + 8
    parts = [
        _text(left, 14, f"{axes[1]} →", "start", SOFT, 12),
        _text(left - 10, top - 8, f"{axes[0]} ↓", "end", SOFT, 12),
    ]
    for row, name in enumerate(names):
        short = name if len(name) <= 14 else name[:13] + "…"
        parts.append(_text(left - 10, top + cell * row + cell / 2 + 4, short, "end"))
        parts.append(_text(left + cell * row + cell / 2, top - 8, short[:5], "middle"))
        total = max(sum(counts[row]), 1)
        for column, count in enumerate(counts[row]):
            x, y = left + cell * column, top + cell * row
            colour = COLOURS[0] if row == column else COLOURS[1]
            shade = f"fill='{colour}' fill-opacity='{0.06 + 0.8 * count / total if count else 0:.2f}'"
            parts.append(f"<rect x='{x + 1}' y='{y + 1}' width='{cell - 2}' height='{cell - 2}' rx='3' {shade}/>")
            if count:
                ink = "#fff" if count > 0.5 * total else "#1d2430"
                parts.append(_text(x + cell / 2, y + cell / 2 + 4, number(count), "middle", ink, 12))
    return _svg(width, height, what, parts)
