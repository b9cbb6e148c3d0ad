"""Compiled loops over sets: rarest elements, signatures, the search of ``setjoin``, common elements.

Imported when the first sets are joined: numba takes a third of a second to load, and seconds to compile once for each
machine (kept in ``__pycache__``).
"""

import numba as nb
import numpy as np

_U = np.uint64
_MIX = _U(0xD6E8FEB86659FD93)
_PLACES = _U(0x9E3779B97F4A7C15)

SLACK = 1e-9
"""Keeps rounding in ``t n`` from raising a bound; verification is by exact counts."""

MANY = 255
"""Counts of the sketch stop here."""

NONE, MAYBE, FIRST, ALL, INSIDE = range(5)
"""What is looked for: nothing, any row that may be similar, any that is, all that are, or all that the row contains."""


@nb.njit(nogil=True, cache=True)
def tally(hashes, sketch, bits):
    """Count elements in the cells that their top bits name; uint8, stopping at ``MANY``."""
    shift = _U(64 - bits)
    for place in range(len(hashes)):
        cell = hashes[place] >> shift
        if sketch[cell] < MANY:
            sketch[cell] += 1


@nb.njit(nogil=True, cache=True)
def mark(kinds, bits, low, high):
    """Note elements in two tables of ``2**bits`` bits, by their low and by their high bits."""
    mask, shift = (_U(1) << _U(bits)) - _U(1), _U(64 - bits)
    for place in range(len(kinds)):
        one, other = kinds[place] & mask, kinds[place] >> shift
        low[one >> _U(3)] |= np.uint8(1 << (one & _U(7)))
        high[other >> _U(3)] |= np.uint8(1 << (other & _U(7)))


@nb.njit(nogil=True, inline="always")
def _marked(table, bit):
    return (table[bit >> _U(3)] >> (bit & _U(7))) & np.uint8(1)


@nb.njit(nogil=True, cache=True)
def common(hashes, ptr, kinds, bits, low, high, out, counts):
    """Elements of each set that are among ``kinds`` (sorted, marked): into ``out``; their number by set and in all."""
    mask, shift = (_U(1) << _U(bits)) - _U(1), _U(64 - bits)
    number = 0
    for row in range(len(ptr) - 1):
        before = number
        for place in range(ptr[row], ptr[row + 1]):
            one = hashes[place]
            if _marked(low, one & mask) and _marked(high, one >> shift):
                found = np.searchsorted(kinds, one)
                if found < len(kinds) and kinds[found] == one:
                    out[number] = one
                    number += 1
        counts[row] = number - before
    return number


@nb.njit(nogil=True, cache=True)
def rarest(hashes, starts, stops, sketch, bits, share, out, ptr):
    """For each row, those elements that any set holding ``share`` of it must meet; their number in all.

    The order is by count, then by hash: the same for all rows, whatever the sketch confuses. An element counted once
    stands in one set only, so it is passed over. ``out`` may be too small: what does not fit is counted all the same.
    """
    shift = _U(64 - bits)
    number = 0
    counts = np.zeros(MANY + 1, np.int64)
    ptr[0] = 0
    for row in range(len(starts)):
        size = stops[row] - starts[row]
        need = size - np.int64(np.ceil(share * size - SLACK)) + 1 if size else 0
        single = 0
        for place in range(starts[row], stops[row]):
            single += sketch[hashes[place] >> shift] <= 1
            if single >= need:
                break
        if single < need:
            counts[:] = 0
            for place in range(starts[row], stops[row]):
                counts[sketch[hashes[place] >> shift]] += 1
            most, left = 0, need
            while left > counts[most]:
                left -= counts[most]
                most += 1
            for place in range(starts[row], stops[row]):
                count = sketch[hashes[place] >> shift]
                if count <= 1 or count > most:
                    continue
                if count == most:  # rows are sorted, so ties fall by hash
                    if left == 0:
                        continue
                    left -= 1
                if number < len(out):
                    out[number] = hashes[place]
                number += 1
        ptr[row + 1] = number
    return number


@nb.njit(nogil=True, cache=True)
def bands(hashes, starts, stops, factors, terms, rows, out, ptr):
    """Tokens of MinHash bands (Broder 1997): rows agree in one with probability J ** ``rows``.

    Permutations are multiplications with an addition modulo 2 ** 32; ``out`` has room for all tokens.
    """
    number = 0
    least = np.empty(len(factors), np.uint32)
    ptr[0] = 0
    for row in range(len(starts)):
        if stops[row] > starts[row]:
            least[:] = np.uint32(0xFFFFFFFF)
            for place in range(starts[row], stops[row]):
                value = np.uint32(hashes[place] >> _U(32))
                for permutation in range(len(factors)):
                    least[permutation] = min(
                        least[permutation], np.uint32(factors[permutation] * value + terms[permutation])
                    )
            for band in range(len(factors) // rows):
                token = _U(band + 1)
                for permutation in range(band * rows, (band + 1) * rows):
                    token = (token ^ _U(least[permutation])) * _MIX
                    token ^= token >> _U(31)
                out[number] = token
                number += 1
        ptr[row + 1] = number
    return number


@nb.njit(inline="always")
def _shared(a, first, last, b, begin, end, need):
    """Elements that two sorted ranges share, or -1 as soon as fewer than ``need`` are possible."""
    found = 0
    while first < last and begin < end:
        if found + min(last - first, end - begin) < need:
            return -1
        # Without branches: they would be mispredicted half of the time.
        for _ in range(8):
            if first == last or begin == end:
                break
            x, y = a[first], b[begin]
            found += x == y
            first += x <= y
            begin += y <= x
    return found


@nb.njit(nogil=True, cache=True)
def search(
    hashes, starts, stops, tokens, firsts, lasts, rows,  # those who ask
    held, held_starts, held_stops,  # those who may be entered
    heads, entries, used, seen, threshold, wanted, enter, gone, pairs, scores, progress,
):  # fmt: skip
    """Look up rows one after another, and enter those that stay.

    Args:
        tokens, firsts, lasts: Index tokens of a row: ``tokens[firsts[row] : lasts[row]]``.
        rows: int64, the askers; ``progress[0]`` says where to begin.
        heads: int32, by the slot of a token the newest entry, or -1; a power of two long.
        entries: int32 (E, 3): the entry before it in its slot, its row, the low bits of its token.
        used: int64 (1,), entries so far.
        seen: int32, by row that may be entered the last asker that met it, plus 1; zero at first.
        wanted: FIRST settles (an asker that is like any entered row is ``gone``), MAYBE marks the same without a look
            at the elements, ALL and INSIDE write all pairs.
        enter: Whether an asker that is not gone is entered; askers and held rows are then the same.
        pairs, scores: int64 (P, 2): asker and entered row; float64 (P,).
        progress: int64 (4,): next asker, pairs written, candidates met, candidates compared. Where pairs do not fit,
            returns early, this asker undone.
    """
    least = threshold - SLACK
    shift, size = _U(64), len(heads)
    while size > 1:
        size >>= 1
        shift -= _U(1)
    while progress[0] < len(rows):
        row = rows[progress[0]]
        length, before, stays = stops[row] - starts[row], progress[1], not gone[row]
        settles = wanted in (FIRST, MAYBE)
        asks = wanted != NONE and (stays or not settles)
        for place in range(firsts[row], lasts[row] if asks else firsts[row]):
            token = tokens[place]
            entry = heads[(token * _PLACES) >> shift]
            while entry >= 0:
                other, tag = entries[entry, 1], entries[entry, 2]
                entry = entries[entry, 0]
                if tag != np.int32(token) or seen[other] == row + 1:
                    continue
                seen[other] = row + 1
                progress[2] += 1
                other_length = held_stops[other] - held_starts[other]
                if wanted == INSIDE:
                    need = np.int64(np.ceil(threshold * other_length - SLACK))
                else:
                    need = np.int64(np.ceil(least / (1 + least) * (length + other_length) - 1e-6))
                if min(length, other_length) < need:
                    continue
                if wanted == MAYBE:
                    stays = False
                    break
                progress[3] += 1
                shared = _shared(hashes, starts[row], stops[row], held, held_starts[other], held_stops[other], need)
                score = shared / (other_length if wanted == INSIDE else length + other_length - shared)
                if score < least or shared < need:
                    continue
                if wanted == FIRST:
                    stays = False
                    break
                if progress[1] == len(scores):
                    progress[1] = before
                    seen[:] = 0
                    return
                pairs[progress[1], 0], pairs[progress[1], 1], scores[progress[1]] = row, other, score
                progress[1] += 1
            if settles and not stays:
                gone[row] = True
                break
        if stays and enter:
            for place in range(firsts[row], lasts[row]):
                slot = (tokens[place] * _PLACES) >> shift
                entries[used[0], 0], entries[used[0], 1] = heads[slot], row
                entries[used[0], 2] = np.int32(tokens[place])
                heads[slot] = used[0]
                used[0] += 1
        progress[0] += 1
