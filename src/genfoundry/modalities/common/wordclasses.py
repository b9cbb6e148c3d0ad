"""Word classes of every Unicode code point, to split text into words."""

import unicodedata

import numpy as np

WORDS = 5
"""Words of a shingle, as in Lee et al. 2022 (arXiv:2107.06499) and the tools after them."""

GAP, WORD, OWN = 0, 1, 2
"""Between words; part of a word; a word by itself: the low two bits of a class."""

ALTERS = 4
"""Bit of a class: lower case or NFC may change this code point or what it stands next to."""

UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x11700, 0x1174F),
    (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
"""Blocks of scripts without spaces: Thai to Lao, Myanmar, Khmer, Tai, Balinese, kana, Han, Javanese, Ahom."""


class Classes:
    """Class of every code point, filled as far as it was asked for."""

    def __init__(self) -> None:
        self.table = np.zeros(0, np.uint8)

    def below(self, stop: int) -> np.ndarray:
        """uint8, at least ``stop`` entries."""
        if stop > len(self.table):
            self._extend(stop)
        return self.table

    def _extend(self, stop: int) -> None:
        characters = [chr(code) for code in range(len(self.table), stop)]
        categories = [unicodedata.category(character)[0] for character in characters]
        more = np.array([category in "LMN" for category in categories], np.uint8)
        alters = [
            category == "M"
            or character.lower() != character
            or not _stands_alone(character)
            or unicodedata.normalize("NFC", character) != character
            for character, category in zip(characters, categories, strict=True)
        ]
        table = np.concatenate([self.table, more | np.array(alters, np.uint8) * np.uint8(ALTERS)])
        if len(table) > ord("_"):
            table[ord("_")] = WORD
        for first, last in UNSPACED:
            part = table[first : last + 1]
            part[(part & 3) == WORD] += OWN - WORD
        self.table = table


def _stands_alone(letter: str) -> bool:
    """Whether no letter before this one can make one code point with it: so do parts of Hangul and Kirat Rai."""
    return not (0x1100 <= ord(letter) <= 0x11FF or 0x16D40 <= ord(letter) <= 0x16D7F)


CLASSES = Classes()
