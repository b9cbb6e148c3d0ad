"""Exact search for copies of pictures: every pair whose descriptors are close, verified on the aligned pixels.

Candidates come from blocked matrix products, no index and no approximation. The sign of a descriptor's odd cosines
turns in a mirror, so that one product of the even and one of the odd half give both cosines. What verification can
still reach after the edges bounds the score, which spares most pairs the costlier steps and loses none.

Rows without small pictures (embeddings that a user gives) are similar by their cosine alone.
"""

import numpy as np

from genfoundry.config.specs import Vectors
from genfoundry.data.similarity.descriptor import MIRROR
from genfoundry.data.similarity.pairs import Verdicts, digests, keys
from genfoundry.data.similarity.setjoin import PAIRS, Matches

MARGIN = 1e-4
"""Single-precision products may be off by less than this; the double-precision cosine decides."""

BLOCK = 1024
"""Rows searched together, and pairs verified together."""

TILE = (256, 4096)
"""Rows and columns of one matrix product: both products stay in a processor's cache."""


def decimals(score: np.ndarray) -> np.ndarray:
    """Scores to six decimals, so that no decision hangs on the last bits of a processor."""
    return np.round(score, 6)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of unit vectors, row by row, in float64."""
    return decimals((first.astype(np.float64) * second.astype(np.float64)).sum(axis=1))


class Verifier:
    """Scores pairs of rows; keeps the edges of every picture that it met."""

    def __init__(
        self,
        vectors: Vectors,
        floor: float,
        mirror: bool,
        verdicts: Verdicts | None = None,
        marks: np.ndarray | None = None,
    ) -> None:
        self.all, self.floor, self.mirror, self.verdicts = vectors, floor, mirror, verdicts
        self.ceiling = -1.0
        """Most that pairs score whose worst blocks disagree: no copies, but they may be asked for as look-alikes."""
        self.digests = np.empty((0, 2), np.uint64)
        if verdicts and vectors.details.size:
            self.digests = digests(vectors) if marks is None else marks
        self.edges = np.empty((len(vectors.vectors), 2, *vectors.details.shape[1:3]), np.int16)
        self.strength = np.zeros(len(vectors.vectors), np.int64)
        self.met = np.zeros(len(vectors.vectors), bool)

    def score(self, first: np.ndarray, second: np.ndarray, least: float = -1.0) -> np.ndarray:
        """float64 (P,): similarity of pairs of rows; -1 where it is below ``least`` or the cosine below the floor."""
        found = np.full(len(first), -1.0)
        for start in range(0, len(first), BLOCK):
            part = slice(start, start + BLOCK)
            a, b = first[part], second[part]
            for mirrored in (False, True) if self.mirror else (False,):
                turned = self.all.vectors[b] * MIRROR if mirrored else self.all.vectors[b]
                near = cosine(self.all.vectors[a], turned)
                place = np.flatnonzero(near >= self.floor)
                if self.all.details.size:
                    near[place] = self._recalled(a[place], b[place], mirrored, least)
                keep = place[near[place] >= least]
                found[start + keep] = np.maximum(found[start + keep], near[keep])
        return found

    def _recalled(self, first: np.ndarray, second: np.ndarray, mirrored: bool, least: float) -> np.ndarray:
        """``_aligned``, without the pairs whose verdict is known; -1 where the score is below ``least``."""
        if self.verdicts is None:
            return self._aligned(first, second, mirrored, least)[0]
        pairs = keys(self.digests[first], self.digests[second], mirrored)
        settled, score = self.verdicts.recall(pairs, least)
        new = np.flatnonzero(~settled)
        if len(new):
            score[new], bound = self._aligned(first[new], second[new], mirrored, least)
            self.verdicts.add(pairs[new], np.where(bound < 0, score[new], bound), bound >= 0)
        return score

    def _aligned(
        self, first: np.ndarray, second: np.ndarray, mirrored: bool, least: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(score, -1 where it is below ``least``; the bound that ruled a pair out, -1 where none did)."""
        from genfoundry.data.similarity import alignment

        new = np.unique(np.concatenate([first, second]))
        new = new[~self.met[new]]
        self.edges[new], self.met[new] = alignment.edges(self.all.details[new]), True
        self.strength[new] = (self.edges[new].astype(np.int64) ** 2).sum(axis=(1, 2, 3))
        # The picture with the stronger edges is laid over the other, so that the order of the two says nothing.
        swap = self.strength[first] < self.strength[second]
        first, second = np.where(swap, second, first), np.where(swap, first, second)
        shift = alignment.shifts(self.edges, first, second, np.full(len(first), mirrored))
        for_edges, for_structure, for_colour = alignment.WEIGHTS
        reach = np.where(shift[:, 0] < alignment.LEAST_EDGES, shift[:, 0], 1.0)
        score = decimals(for_edges * reach + for_structure + for_colour)
        hope = np.flatnonzero(score >= least)
        bound = np.where(score < least, score, -1.0)
        score[score < least] = -1.0
        if len(hope):
            rows, place = np.unique(first[hope], return_inverse=True)
            others, other = np.unique(second[hope], return_inverse=True)
            flipped = self.all.details[others][:, :, ::-1] if mirrored else self.all.details[others]
            thumbs = np.concatenate([self.all.details[rows], flipped])
            colours = np.ascontiguousarray(thumbs.transpose(0, 3, 1, 2))
            looks = alignment.compared(alignment.structure(thumbs), colours, place, other + len(rows), shift[hope])
            best = np.where(reach[hope] < 1, shift[hope, 0], np.maximum(shift[hope, 0], looks[:, 2]))
            total = for_edges * best + for_structure * looks[:, 0] + for_colour * looks[:, 1]
            agree = decimals(looks[:, 2]) >= alignment.LEAST_LOCAL
            shown = np.where(looks[:, 2] > -1, self.ceiling, -1.0)
            score[hope] = np.where(agree, decimals(total), np.minimum(decimals(total), shown))
            small = hope[looks[:, 3] >= 0]
            plain = decimals(looks[looks[:, 3] >= 0, 3])
            score[small] = np.where(plain >= alignment.LEAST_PLAIN, plain, -1.0)
        return score, bound


class Index:
    """Vectors that were entered, searched exactly."""

    def __init__(
        self,
        vectors: Vectors,
        threshold: float,
        floor: float,
        mirror: bool,
        verdicts: Verdicts | None = None,
        marks: np.ndarray | None = None,
    ) -> None:
        self.all, self.threshold, self.floor, self.mirror = vectors, threshold, floor, mirror
        self.verifier = Verifier(vectors, floor, mirror, verdicts, marks)
        self.entered = np.empty(len(vectors.vectors), np.int64)
        # Even cosines first, then odd ones: two contiguous halves.
        self.order = np.argsort(-MIRROR, kind="stable") if mirror else np.arange(vectors.vectors.shape[1])
        self.even = int((MIRROR > 0).sum()) if mirror else vectors.vectors.shape[1]
        self.held = np.empty_like(vectors.vectors)
        self.count = 0

    def add(self, rows: np.ndarray) -> None:
        """Enter rows."""
        stop = self.count + len(rows)
        self.entered[self.count : stop], self.held[self.count : stop] = rows, self.all.vectors[rows][:, self.order]
        self.count = stop

    def similar(self, rows: np.ndarray) -> Matches:
        """Every pair (row, entered row) at or above the threshold."""
        parts = []
        for start in range(0, len(rows), BLOCK):
            mine = rows[start : start + BLOCK]
            first, second = self._close(self.all.vectors[mine][:, self.order], self.held[: self.count])
            parts.append(self._verified(mine[first], self.entered[second]))
        return Matches.of(parts)

    def among(self, rows: np.ndarray) -> Matches | None:
        """Every pair within ``rows`` (ascending) at or above the threshold; None if too many would be compared."""
        mine = self.all.vectors[rows][:, self.order]
        first, second = self._close(mine, mine)
        first, second = first[first > second], second[first > second]
        if len(first) > PAIRS and len(rows) > 1:
            return None
        return self._verified(rows[first], rows[second])

    def _close(self, mine: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of every pair whose cosine, plain or mirrored, may reach the floor."""
        parts, least = [(np.empty(0, np.int64), np.empty(0, np.int64))], np.float32(self.floor - MARGIN)
        for top in range(0, len(mine), TILE[0]):
            block = mine[top : top + TILE[0]]
            for left in range(0, len(held), TILE[1]):
                other = held[left : left + TILE[1]]
                product = block[:, : self.even] @ other[:, : self.even].T
                if self.even < mine.shape[1]:
                    odd = block[:, self.even :] @ other[:, self.even :].T
                    product += np.abs(odd, out=odd)
                # As one long row: finding places in two dimensions costs several times as much.
                place = np.flatnonzero(product >= least)
                parts.append((place // len(other) + top, place % len(other) + left))
        rows, columns = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(columns)

    def _verified(self, first: np.ndarray, second: np.ndarray) -> Matches:
        first, second = first[first != second], second[first != second]
        score = self.verifier.score(first, second, self.threshold)
        good = (score >= self.threshold) & (score > -1)
        return Matches(first[good], second[good], score[good])
