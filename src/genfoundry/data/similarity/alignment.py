"""Similarity of two pictures: align by shift, scale, aspect and small rotation, then compare in three ways.

1. Edges: best normalised correlation of the luminance gradients over whole-pixel shifts; or the agreement of the worst
   blocks once aligned, if that is higher: edges of a picture at another scale meet nowhere after a mere shift.
2. Structure: correlation of the luminance, each pixel against the mean and contrast of its surroundings, after
   Gauss-Newton steps on an affine warp with gain and bias (Lucas and Kanade 1981; Evangelidis and Psarakis 2008).
   Horizons, frames and silhouettes are few of such pixels, so that look-alikes that share one stay apart.
3. Colour: correlation of all channels together at the same warp; it falls where hues differ, not where light does.

What two pictures share says nothing where it is the ground (a frame, a white page): the worst blocks decide whether the
pair is judged at all, and pictures without a block that shows something can't be verified, so they are no copies. Small
signs on an equal ground (icons, letters) are compared as they stand, since a warp turns one into another.

Scores are plain loops over rounded planes, without reordered sums, and rounded to six decimals: equal on every machine.
"""

import math

import numpy as np
from numba import njit

from genfoundry.data.similarity.descriptor import SIDE, luminance

WEIGHTS = (1 / 3, 1 / 2, 1 / 6)
"""Shares of edges, structure and colour in the score. Edges after a mere shift weigh against large warps, which align
unlike pictures too (chosen on contact sheets of CIFAR-10)."""

REACH = 3
"""Largest shift of the edges, in pixels of 32 (a tenth of the side)."""

STEPS = 8
"""Gauss-Newton steps; most pairs converge in five."""

HOPE_AFTER, HOPE = 2, 0.6
"""Pairs whose structure agrees less after three steps are given up: no synthetic or real duplicate does."""

LIMITS = np.array([6.0, 6.0, 0.3, 0.15, 0.15, 0.3])
"""Bounds of the warp: shift in pixels, then the linear part (scales on the diagonal, turns beside it)."""

LEAST_EDGES = 0.45
"""Pairs whose edges agree less are judged by their edges alone: it spares the costly steps, and no real copy does."""

CELL, STRIDE = 8, 4
"""Side of the blocks, which overlap, and the distance from one to the next, in pixels."""

SHOWS, LEVELS = 0.4, 12.0
"""Contrast of structure and of luminance (standard deviation; or half that of the picture, where it has less) at which
a block shows something: noise of 8 levels alone does not."""

LEAST_LOCAL = 0.6
"""Least agreement of the worst tenth of the blocks that show something. Of synthetic duplicates of CIFAR-10, 99 % of
each kind are above; 95 % of pairs that share no more than a frame of a third of the side are below."""

SMALL, LEAST_PLAIN = 10, 0.99
"""Pictures with so many blocks (of 49) that show something, or fewer, show a small sign: their score is the correlation
of all levels as they stand, and at least this. Letters of 5 by 7 pixels: saved as JPEG of quality 30 and more 0.993 and
above, another letter 0.983 and below."""

LEAST_OVERLAP = 500
"""Pixels of 1,024 that both pictures must show after the warp."""

SURROUNDINGS, NOISE = 2.5, 6.0
"""Pixels (sigma) of a pixel's surroundings, and the contrast below which they count as noise, in levels."""

_CENTRE = (SIDE - 1) / 2


def _blur(sigma: float) -> np.ndarray:
    """float64 (SIDE, SIDE): Gaussian along one axis, mirrored at the border."""
    matrix, reach = np.zeros((SIDE, SIDE)), math.ceil(4 * sigma)
    for row in range(SIDE):
        for offset in range(-reach, reach + 1):
            place = (row + offset) % (2 * SIDE)
            matrix[row, min(place, 2 * SIDE - 1 - place)] += math.exp(-((offset / sigma) ** 2) / 2)
    return matrix / matrix.sum(axis=1, keepdims=True)


def edges(thumbs: np.ndarray) -> np.ndarray:
    """int16 (N, 2, SIDE, SIDE): vertical and horizontal gradient of the luminance in quarters of a level."""
    blur = _blur(0.7)
    grey = blur @ luminance(thumbs) @ blur.T
    return np.rint(4 * np.stack([np.gradient(grey, axis=1), np.gradient(grey, axis=2)], 1)).astype(np.int16)


def structure(thumbs: np.ndarray) -> np.ndarray:
    """float64 (N, 4, SIDE, SIDE): luminance against its surroundings, its two gradients (down, right); luminance."""
    fine, wide, levels = _blur(0.5), _blur(SURROUNDINGS), luminance(thumbs)
    grey = fine @ levels @ fine.T
    centred = grey - wide @ grey @ wide.T
    spread = wide @ (centred * centred) @ wide.T
    plane = np.rint(centred / np.sqrt(spread + NOISE**2) * 1024) / 1024
    return np.stack([plane, np.gradient(plane, axis=1), np.gradient(plane, axis=2), levels], 1)


@njit(cache=True)
def _energy(edge: np.ndarray) -> np.ndarray:
    """int64 (SIDE+1, SIDE+1): sums of squares above and left of each place."""
    total = np.zeros((SIDE + 1, SIDE + 1), np.int64)
    for y in range(SIDE):
        line = 0
        for x in range(SIDE):
            line += int(edge[0, y, x]) ** 2 + int(edge[1, y, x]) ** 2
            total[y + 1, x + 1] = total[y, x + 1] + line
    return total


@njit(cache=True)
def _shifted(first: np.ndarray, second: np.ndarray) -> tuple[float, int, int]:
    """(best correlation of edges, the shift down and right at which ``first`` shows what ``second`` does)."""
    energy_a, energy_b = _energy(first), _energy(second)
    best, down, right = -1.0, 0, 0
    for dy in range(-REACH, REACH + 1):
        y0, y1 = max(0, -dy), min(SIDE, SIDE - dy)
        for dx in range(-REACH, REACH + 1):
            x0, x1 = max(0, -dx), min(SIDE, SIDE - dx)
            both = 0
            for plane in range(2):
                for y in range(y0, y1):
                    a, b = first[plane, y + dy, x0 + dx : x1 + dx], second[plane, y, x0:x1]
                    line = np.int32(0)
                    for x in range(x1 - x0):
                        line += np.int32(a[x]) * np.int32(b[x])
                    both += line
            a0, a1, b0, b1 = y0 + dy, y1 + dy, x0 + dx, x1 + dx
            sum_a = energy_a[a1, b1] - energy_a[a0, b1] - energy_a[a1, b0] + energy_a[a0, b0]
            sum_b = energy_b[y1, x1] - energy_b[y0, x1] - energy_b[y1, x0] + energy_b[y0, x0]
            score = both / math.sqrt(float(sum_a) * float(sum_b) + 1000.0)
            # At equal scores the smaller shift, so that swapping the pictures changes nothing.
            if score > best or (score == best and dy * dy + dx * dx < down * down + right * right):
                best, down, right = score, dy, dx
    return best, down, right


@njit(cache=True)
def shifts(edge: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """float64 (P, 3): correlation of edges and shift of each pair of rows; ``mirrored`` flips the second."""
    found = np.empty((len(first), 3))
    flipped = np.empty((2, SIDE, SIDE), np.int16)
    for pair in range(len(first)):
        other = edge[second[pair]]
        if mirrored[pair]:
            flipped[0], flipped[1] = other[0, :, ::-1], -other[1, :, ::-1]
            other = flipped
        found[pair, 0], found[pair, 1], found[pair, 2] = _shifted(edge[first[pair]], other)
    return found


@njit(cache=True)
def _at(plane: np.ndarray, y: float, x: float) -> float:
    """Value between pixels, by the nearest four."""
    row, column = min(int(y), SIDE - 2), min(int(x), SIDE - 2)
    dy, dx = y - row, x - column
    upper = plane[row, column] * (1 - dx) + plane[row, column + 1] * dx
    lower = plane[row + 1, column] * (1 - dx) + plane[row + 1, column + 1] * dx
    return float(upper * (1 - dy) + lower * dy)


@njit(cache=True)
def _warp(warp: np.ndarray, y: int, x: int) -> tuple[float, float]:
    dy, dx = y - _CENTRE, x - _CENTRE
    return (
        _CENTRE + warp[0] + (1 + warp[2]) * dy + warp[3] * dx,
        _CENTRE + warp[1] + warp[4] * dy + (1 + warp[5]) * dx,
    )


@njit(cache=True)
def _correlation(first: np.ndarray, second: np.ndarray, warp: np.ndarray) -> float:
    """Of planes (C, SIDE, SIDE) where both show something; all channels against one mean. -1: too little in common."""
    count, sum_a, sum_b, squares_a, squares_b, both = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(SIDE):
        for x in range(SIDE):
            v, u = _warp(warp, y, x)
            if v < 0 or u < 0 or v > SIDE - 1 or u > SIDE - 1:
                continue
            for channel in range(len(first)):
                a, b = _at(first[channel], v, u), float(second[channel, y, x])
                count += 1
                sum_a, sum_b = sum_a + a, sum_b + b
                squares_a, squares_b, both = squares_a + a * a, squares_b + b * b, both + a * b
    if count < LEAST_OVERLAP * len(first):
        return -1.0
    spread = (squares_a - sum_a * sum_a / count) * (squares_b - sum_b * sum_b / count)
    return (both - sum_a * sum_b / count) / math.sqrt(max(spread, 0.0) + 1e-6)


@njit(cache=True)
def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of a symmetric positive system, by Cholesky: LAPACK's rounding differs from processor to processor."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / matrix[j, j]
    for i in range(size):
        for k in range(i):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= matrix[k, i] * right[k]
        right[i] /= matrix[i, i]
    return right


@njit(cache=True)
def _step(first: np.ndarray, second: np.ndarray, warp: np.ndarray) -> np.ndarray:
    """Gauss-Newton step of the warp's six numbers, by every other pixel (gain and bias are solved along)."""
    normal, right, slope = np.zeros((8, 8)), np.zeros(8), np.empty(8)
    for y in range(SIDE):
        for x in range(y % 2, SIDE, 2):
            v, u = _warp(warp, y, x)
            if v < 0 or u < 0 or v > SIDE - 1 or u > SIDE - 1:
                continue
            a, down, across = _at(first[0], v, u), _at(first[1], v, u), _at(first[2], v, u)
            dy, dx = y - _CENTRE, x - _CENTRE
            slope[0], slope[1], slope[2], slope[3] = down, across, down * dy, down * dx
            slope[4], slope[5], slope[6], slope[7] = across * dy, across * dx, a, 1.0
            error = second[0, y, x] - a
            for i in range(8):
                right[i] += slope[i] * error
                for j in range(i + 1):
                    normal[i, j] += slope[i] * slope[j]
    # A pull towards small steps, in proportion to what the picture says (tried on synthetic and real duplicates).
    mean = (normal[0, 0] + normal[1, 1]) / 2 + 1e-3
    for i in range(6):
        normal[i, i] += (0.02 if i < 2 else 0.85) * mean
    normal[6, 6] += 1e-3
    normal[7, 7] += 1e-3
    return _solved(normal, right)[:6]


@njit(cache=True)
def _aligned(first: np.ndarray, second: np.ndarray, down: float, right: float) -> tuple[float, np.ndarray]:
    """(best correlation of structure, its warp) of ``structure`` planes, from a shift on."""
    warp = np.zeros(6)
    warp[0], warp[1] = down, right
    best, found = _correlation(first[:1], second[:1], warp), warp.copy()
    for step in range(STEPS):
        change = _step(first, second, warp)
        for i in range(6):
            warp[i] = min(LIMITS[i], max(-LIMITS[i], warp[i] + change[i]))
        score = _correlation(first[:1], second[:1], warp)
        if score > best:
            gained = score - best
            best, found[:] = score, warp
            if gained < 1e-4 and step > 1:
                break
        if step == HOPE_AFTER and best < HOPE:
            break
    return best, found


@njit(cache=True)
def _spread(levels: np.ndarray) -> float:
    """Variance of a plane."""
    total, squares = 0.0, 0.0
    for y in range(SIDE):
        for x in range(SIDE):
            total, squares = total + levels[y, x], squares + levels[y, x] ** 2
    return float(squares / SIDE**2 - (total / SIDE**2) ** 2)


@njit(cache=True)
def _local(first: np.ndarray, second: np.ndarray, warp: np.ndarray) -> tuple[float, int]:
    """(mean correlation of the worst tenth of the blocks that show something in either picture, -1 if none does; their
    number).
    """
    laid, seen = np.zeros((2, SIDE, SIDE)), np.zeros((SIDE, SIDE), np.bool_)
    for y in range(SIDE):
        for x in range(SIDE):
            v, u = _warp(warp, y, x)
            if v >= 0 and u >= 0 and v <= SIDE - 1 and u <= SIDE - 1:
                seen[y, x] = True
                laid[0, y, x], laid[1, y, x] = _at(first[0], v, u), _at(first[3], v, u)
    least = min(LEVELS**2, max(_spread(first[3]), _spread(second[3])) / 4)
    found, count = np.empty(SIDE * SIDE), 0
    for top in range(0, SIDE - CELL + 1, STRIDE):
        for left in range(0, SIDE - CELL + 1, STRIDE):
            cell, number = np.zeros(9), 0
            for y in range(top, top + CELL):
                for x in range(left, left + CELL):
                    if seen[y, x]:
                        a, b, p, q = laid[0, y, x], second[0, y, x], laid[1, y, x], second[3, y, x]
                        number += 1
                        cell[0], cell[1], cell[2] = cell[0] + a, cell[1] + b, cell[2] + a * a
                        cell[3], cell[4], cell[5] = cell[3] + b * b, cell[4] + a * b, cell[5] + p
                        cell[6], cell[7], cell[8] = cell[6] + q, cell[7] + p * p, cell[8] + q * q
            if number < CELL * CELL * 3 / 4:
                continue
            spread_a, spread_b = cell[2] - cell[0] ** 2 / number, cell[3] - cell[1] ** 2 / number
            levels = max(cell[7] - cell[5] ** 2 / number, cell[8] - cell[6] ** 2 / number)
            if max(spread_a, spread_b) < number * SHOWS**2 or levels < number * least:
                continue
            both = cell[4] - cell[0] * cell[1] / number
            found[count] = both / math.sqrt(max(spread_a * spread_b, 0.0) + 1e-6)
            count += 1
    if not count:
        return -1.0, 0
    worst = (count + 9) // 10
    return float(np.sort(found[:count])[:worst].sum() / worst), count


@njit(cache=True)
def compared(
    planes: np.ndarray, colours: np.ndarray, first: np.ndarray, second: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """float64 (P, 4): structure, colour and worst blocks of pairs of rows, the first laid over the second; and how far
    they agree as they stand, if they show small signs alone, else -1.
    """
    found, still = np.empty((len(first), 4)), np.zeros(6)
    for pair in range(len(first)):
        a, b = first[pair], second[pair]
        found[pair, 0], warp = _aligned(planes[a], planes[b], shift[pair, 1], shift[pair, 2])
        found[pair, 1] = _correlation(colours[a], colours[b], warp)
        found[pair, 2], blocks = _local(planes[a], planes[b], warp)
        found[pair, 3] = _correlation(colours[a], colours[b], still) if 0 < blocks <= SMALL else -1.0
    return found


def overlaid(first: np.ndarray, second: np.ndarray, mirrored: bool) -> tuple[np.ndarray, float]:
    """(``first`` laid over ``second`` as float64 (SIDE, SIDE, C), NaN where it shows nothing; their structure's score).

    Both are uint8 (SIDE, SIDE, C); ``mirrored`` flips the first.
    """
    thumbs = np.stack([first[:, ::-1] if mirrored else first, second])
    one, two = np.array([0]), np.array([1])
    _, down, right = shifts(edges(thumbs), one, two, np.array([False]))[0]
    planes = structure(thumbs)
    score, warp = _aligned(planes[0], planes[1], down, right)
    laid = np.full(second.shape, np.nan)
    for y in range(SIDE):
        for x in range(SIDE):
            v, u = _warp(warp, y, x)
            if min(v, u) >= 0 and max(v, u) <= SIDE - 1:
                laid[y, x] = [_at(thumbs[0, :, :, channel], v, u) for channel in range(second.shape[-1])]
    return laid, round(float(score), 6)
