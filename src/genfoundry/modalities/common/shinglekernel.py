"""Words and 5-grams out of UTF-8 bytes, compiled: the inner loop of ``shingles``.

Imported when the first text is fingerprinted: numba takes a third of a second to load, and seconds to compile once
for each machine (kept in ``__pycache__``).

A row is read eight bytes at a time. Letters, digits and underscores are found by arithmetic on all eight at once,
upper case is folded on the way, and a word's hash takes eight bytes a multiplication. Only rows with other than ASCII
bytes are decoded, code point by code point.
"""

import numba as nb
import numpy as np

from genfoundry.modalities.common.wordclasses import ALTERS, GAP, OWN, WORDS

_U = np.uint64
_ONES = 0x0101010101010101
_HIGH = _U(0x80 * _ONES)
_LOW = _U(0x7F * _ONES)
_FROM_A, _PAST_Z = _U((0x80 - ord("a")) * _ONES), _U((0x7F - ord("z")) * _ONES)
_FROM_0, _PAST_9 = _U((0x80 - ord("0")) * _ONES), _U((0x7F - ord("9")) * _ONES)
_CASE, _UNDERSCORE = _U(0x20 * _ONES), _U(ord("_") * _ONES)
_GATHER = _U(0x0102040810204080)
"""Times eight bytes of 0 or 1: their bits, in order, in the top byte."""

_MIX = _U(0xD6E8FEB86659FD93)
_FOLD = _U(0x9E3779B97F4A7C15)
_PLACES = tuple(_U(pow(0xBF58476D1CE4E5B9, power, 1 << 64)) for power in range(1, WORDS + 1))
"""Factor of the word at each place of a 5-gram: odd, so that none loses a bit."""

_ISOLATED = _U(0x03F79D71B4CB0A89)
"""De Bruijn sequence: the top six bits of its product with a power of two identify the power."""
_WHICH = np.zeros(64, np.int64)
for _bit in range(64):
    _WHICH[((0x03F79D71B4CB0A89 << _bit) & (2**64 - 1)) >> 58] = _bit
_BYTES = np.array([(1 << (8 * count)) - 1 for count in range(9)], np.uint64)
"""Masks of the first 0 to 8 bytes."""


@nb.njit(inline="always")
def _at(words, place):
    """Eight bytes from any byte on: uint64, first byte lowest."""
    shift = _U((place & 7) << 3)
    return (words[place >> 3] >> shift) | ((words[(place >> 3) + 1] << _U(1)) << (_U(63) - shift))


@nb.njit(inline="always")
def _word_bytes(eight):
    """(the same in lower case, top bit of every byte that is an ASCII letter, digit or underscore)."""
    seven = eight & _LOW
    small = seven | _CASE
    letter = (small + _FROM_A) & ~(small + _PAST_Z) & ~eight & _HIGH
    digit = (seven + _FROM_0) & ~(seven + _PAST_9)
    # (7-bit x) + 0x7f has its top bit set unless x is 0.
    under = ~((seven ^ _UNDERSCORE) + _LOW)
    return eight | (letter >> _U(2)), letter | ((digit | under) & ~eight & _HIGH)


@nb.njit(inline="always")
def _lowest(turns):
    """Number of the lowest set bit."""
    return _WHICH[((turns & (~turns + _U(1))) * _ISOLATED) >> _U(58)]


@nb.njit(inline="always")
def _ascii_edges(words, begin, length, folded, edges):
    """Begin and end of each word of an ASCII row, by turns; ``folded`` gets its bytes in lower case."""
    count, before, place = 0, _U(0), 0
    while place < length:
        mask = _U(0)
        for part in range(8):
            if place + 8 * part >= length:
                break
            eight, inside = _word_bytes(_at(words, begin + place + 8 * part))
            folded[(place >> 3) + part] = eight
            mask |= (((inside >> _U(7)) * _GATHER) >> _U(56)) << _U(8 * part)
        if length - place < 64:
            mask &= (_U(1) << _U(length - place)) - _U(1)
        turns = mask ^ ((mask << _U(1)) | before)
        before = mask >> _U(63)
        while turns:
            edges[count] = place + _lowest(turns)
            count += 1
            turns &= turns - _U(1)
        place += 64
    if count & 1:
        edges[count] = length
        count += 1
    return count


@nb.njit(inline="always")
def _code_point(bytes_, place):
    """(code point, bytes it takes) at a place of UTF-8."""
    eight = _at(bytes_, place)
    byte = np.int64(eight & _U(255))
    if byte < 0x80:
        return byte, 1
    size = 2 + (byte >= 0xE0) + (byte >= 0xF0)
    code = byte & (0x7F >> size)
    for later in range(1, size):
        code = (code << 6) | np.int64((eight >> _U(8 * later)) & _U(63))
    return code, size


@nb.njit(inline="always")
def _decoded_edges(words, begin, length, classes, folded, edges):
    """The same for a row in any script in canonical form but for the case of ASCII letters."""
    for place in range(0, length, 8):
        folded[place >> 3], _ = _word_bytes(_at(words, begin + place))
    folded[(length + 7) >> 3] = _U(0)
    count, place, inside = 0, 0, False
    while place < length:
        if place & 7 == 0 and place + 8 <= length and folded[place >> 3] & _HIGH == 0:
            _, high = _word_bytes(folded[place >> 3])
            mask = ((high >> _U(7)) * _GATHER) >> _U(56)
            turns = (mask ^ ((mask << _U(1)) | _U(inside))) & _U(255)
            inside = mask >> _U(7) != 0
            while turns:
                edges[count] = place + _lowest(turns)
                count += 1
                turns &= turns - _U(1)
            place += 8
            continue
        code, size = _code_point(folded, place)
        kind = classes[code] & 3
        if inside and kind in (GAP, OWN):
            edges[count] = place
            count += 1
            inside = False
        if kind == OWN:
            edges[count], edges[count + 1] = place, place + size
            count += 2
        elif kind != GAP and not inside:
            edges[count] = place
            count += 1
            inside = True
        place += size
    if inside:
        edges[count] = length
        count += 1
    return count


@nb.njit(nogil=True, cache=True)
def altered(words, begins, ends, plain, classes, found):
    """Set ``found`` for rows that lower case or NFC may change beyond ASCII letters."""
    for row in range(len(begins)):
        place, found[row] = begins[row], False
        while not plain[row] and place < ends[row]:
            if _at(words, place) & _HIGH == 0:
                place += 8
                continue
            code, size = _code_point(words, place)
            if code >= 0x80 and classes[code] & ALTERS:
                found[row] = True
                break
            place += size


@nb.njit(inline="always")
def _grams(folded, edges, count, hashes):
    """Hash of each five words in a row; their number."""
    number = count >> 1
    for word in range(number):
        place, end = edges[2 * word], edges[2 * word + 1]
        value = _at(folded, place) & _BYTES[min(end - place, 8)]
        place += 8
        while place < end:
            value *= _FOLD
            value ^= value >> _U(32)
            value = value * _MIX + (_at(folded, place) & _BYTES[min(end - place, 8)])
            place += 8
        value *= _FOLD
        value ^= value >> _U(32)
        value *= _MIX
        hashes[word] = value ^ (value >> _U(29))
    for word in range(number - WORDS + 1):
        value = _U(0)
        for place in range(WORDS):
            value += hashes[word + place] * _PLACES[place]
        value = (value ^ (value >> _U(32))) * _MIX
        hashes[word] = value ^ (value >> _U(32))
    return max(number - WORDS + 1, 0)


@nb.njit(inline="always")
def _distinct(values, number, slots, out, filled):
    """Sort ``number`` values into ``out[filled:]``, each once; hashes fill their slots evenly, so time is linear."""
    bits = 1
    while (2 << bits) < number:
        bits += 1
    shift = _U(64 - bits)
    slots[: (1 << bits) + 1] = 0
    for place in range(number):
        slots[(values[place] >> shift) + _U(1)] += 1
    for slot in range(1 << bits):
        slots[slot + 1] += slots[slot]
    for place in range(number):
        slot = values[place] >> shift
        out[filled + slots[slot]] = values[place]
        slots[slot] += 1
    kept = filled
    for place in range(filled, filled + number):
        value, back = out[place], kept
        while back > filled and out[back - 1] > value:
            back -= 1
        if back > filled and out[back - 1] == value:
            continue
        for move in range(kept, back, -1):
            out[move] = out[move - 1]
        out[back] = value
        kept += 1
    return kept


@nb.njit(nogil=True, cache=True)
def fill(words, begins, ends, plain, classes, out, filled, ptr):
    """Write the set of each row into ``out``, ascending, from ``filled`` on, and its bounds into ``ptr``.

    Args:
        words: uint64, UTF-8, padded by 16 bytes at least.
        begins, ends: int64 (N,), the bytes of each row.
        plain: bool (N,), rows of ASCII alone.
        classes: uint8, class of each code point up to the largest that occurs.
        out: uint64, with room for half as many hashes as there are bytes.
        ptr: int64 (N+1,), filled in.
    """
    longest = 64
    for row in range(len(begins)):
        longest = max(longest, ends[row] - begins[row])
    folded = np.zeros((longest >> 3) + 18, np.uint64)
    edges = np.empty(2 * longest + 4, np.int32)
    hashes = np.empty(longest + 4, np.uint64)
    slots = np.empty(2 * longest + 4, np.int32)
    ptr[0] = filled
    for row in range(len(begins)):
        length = ends[row] - begins[row]
        if plain[row]:
            count = _ascii_edges(words, begins[row], length, folded, edges)
        else:
            count = _decoded_edges(words, begins[row], length, classes, folded, edges)
        number = _grams(folded, edges, count, hashes)
        if number:
            filled = _distinct(hashes, number, slots, out, filled)
        ptr[row + 1] = filled
    return filled
