"""Scans of a JPEG: what libjpeg takes without a warning although a part of the picture never came.

ITU-T T.81, B.2: markers and segments; G.1.1.1: a progressive picture comes in scans of some coefficients (Ss to Se)
down to some bit (Al).
"""

import re

_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])")
"""Begins a segment or ends the picture; inside a scan's data FF 00 is a byte, and FF D0 to FF D7 are restarts."""

_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_SOS, _EOI = 0xDA, 0xD9
_NOT_YET = 255


def checked(data: bytes) -> tuple[bytes, str]:
    """(The file with parameters of sequential scans as the standard has them, what its scans lack; empty for nothing).

    Some encoders leave the parameters of sequential scans 0. That is harmless, but libjpeg warns of it, and only its
    first warning is known. Of several pictures the first counts.

    Raises:
        IndexError: A segment is cut.
    """
    fixed, components, sequential, place = bytearray(data), [], False, 2
    while (found := _MARKER.search(data, place)) and found[1][0] != _EOI:
        kind, start = found[1][0], found.end()
        place = start + max(int.from_bytes(data[start : start + 2]), 2)
        if kind in _SEQUENTIAL or kind in _PROGRESSIVE:
            sequential, count = kind in _SEQUENTIAL, data[start + 7]
            components = [(data[start + 8 + 3 * one], bytearray([_NOT_YET] * 64)) for one in range(count)]
        elif kind == _SOS:
            parameters = start + 3 + 2 * data[start + 2]
            if sequential:
                fixed[parameters : parameters + 3] = b"\x00\x3f\x00"
            first, last, bits = fixed[parameters : parameters + 3]
            asked = [data[start + 3 + 2 * one] for one in range(data[start + 2])]
            for name, planes in components:
                # By count, as libjpeg does: some encoders give all components one name.
                if name in asked:
                    asked.remove(name)
                    planes[first : last + 1] = bytes([bits & 15]) * (min(last, 63) + 1 - first)
    for number, (_, planes) in enumerate(components, 1):
        if any(planes):
            detail = f"{sum(map(bool, planes))} of 64 coefficients of component {number} are not complete"
            return bytes(fixed), f"{detail}: cut between scans"
    return bytes(fixed), ""
