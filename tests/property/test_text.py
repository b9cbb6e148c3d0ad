"""Text: shingles against a plain definition, cleaning that settles, texts that survive their tokens."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genfoundry.modalities import text
from genfoundry.modalities.common import shingles as _shingles
from genfoundry.modalities.common import tokens as _tokens
from genfoundry.modalities.common import wordclasses as _wordclasses

letters = "aAbB_09 \n.,-\u0301éÉßİⅧⓐ今日はสวัสดีक\u093e한국\u1112\u1161\u11ab🙂𝒳"
mixed = st.text(st.one_of(st.sampled_from(letters), st.characters(codec="utf-8")), max_size=60)
pieces = st.sampled_from(["word ", "Word, ", "x" * 17, "y" * 70 + " ", "Straße ", "a b c d e ", "日本", "naïve\n"])
documents = st.one_of(mixed, st.lists(st.one_of(pieces, mixed), max_size=20).map("".join))


def words(content: str) -> list[str]:
    """By the definition: own code points of scripts without spaces, else runs of letters, marks, digits, underscore."""
    found, run = [], ""
    for character in unicodedata.normalize("NFC", content.lower()):
        inside = character == "_" or unicodedata.category(character)[0] in "LMN"
        own = inside and any(first <= ord(character) <= last for first, last in _wordclasses.UNSPACED)
        if run and (own or not inside):
            found.append(run)
            run = ""
        if own:
            found.append(character)
        elif inside:
            run += character
    return [*found, run] if run else found


@given(st.lists(documents, min_size=1, max_size=8), st.sampled_from([1, 40, 10**6]))
def test_shingles_are_the_sets_of_five_words(texts: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_shingles, "BLOCK", block)
        sets = _shingles.sets(texts)

    plain = []
    for content in texts:
        found = words(content)
        plain.append({tuple(found[i : i + 5]) for i in range(len(found) - 4)})
    rows = [sets.hashes[a:b] for a, b in zip(sets.ptr, sets.ptr[1:], strict=False)]
    assert [len(row) for row in rows] == [len(grams) for grams in plain]
    assert all((row[1:] > row[:-1]).all() for row in rows)
    for i in range(len(texts)):
        for j in range(i):
            assert len(np.intersect1d(rows[i], rows[j])) == len(plain[i] & plain[j])


def test_what_case_folding_or_nfc_may_change_is_marked() -> None:
    """Rows without such code points skip unicodedata: alone or behind any other, the rest must stay as they are."""
    table = _wordclasses.CLASSES.below(0x110000)

    seconds = set()
    for code in range(0x110000):
        character, kind = chr(code), table[code]
        decomposition = unicodedata.decomposition(character)
        if decomposition and not decomposition.startswith("<") and " " in decomposition:
            seconds.add(int(decomposition.split()[1], 16))
        if code >= 0x80 and not kind & _wordclasses.ALTERS and not 0xD800 <= code < 0xE000:
            assert _shingles.canonical(character) == character
            assert not unicodedata.combining(character)
    assert all(table[code] & _wordclasses.ALTERS for code in seconds)
    assert all(table[code] & _wordclasses.ALTERS for code in range(0x1161, 0x1200))


@example("e\x07\u0301")
@example("\n a \x07\n\r")
@given(st.text(st.one_of(st.sampled_from(" \t\n\r\x07\ufeff\u00a0e\u0301"), st.characters()), max_size=40))
def test_cleaning_settles_and_leaves_no_control_characters(content: str) -> None:
    once = text.canonical(content)

    assert text.canonical(once) == once
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]|[ \t]\n|[ \t\n]\Z", once)
    assert unicodedata.is_normalized("NFC", once)


TOKENIZERS = {
    kind: _tokens.train(text.Encode(tokenizer=kind, vocab_size=300), ["Größe 世界 the the then", "a b c\n\td"])
    for kind in ("bpe", "bytes", "characters")
}


@given(st.text(max_size=80), st.sampled_from(sorted(TOKENIZERS)))
def test_any_text_survives_its_tokens_and_never_holds_a_boundary(content: str, kind: str) -> None:
    tokens = TOKENIZERS[kind].encode(content).ids

    assert TOKENIZERS[kind].decode(tokens, skip_special_tokens=False) == content
    assert 0 not in tokens


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40), max_size=12),
    st.integers(1, 60),
)
def test_cutting_a_file_loses_nothing(tmp_path_factory: pytest.TempPathFactory, lines: list[str], chunk: int) -> None:
    from genfoundry.modalities.common import archives as _archives
    from genfoundry.modalities.common import textfiles as _textfiles

    path = tmp_path_factory.mktemp("cut") / "x.txt"
    content = "\n".join(lines).lstrip("\ufeff").replace("\n\ufeff", "\n")
    path.write_bytes(content.encode())

    config = text.Ingest(chunk=chunk)
    rows = [row for found in _archives.members(path, config) for row in _textfiles.plain(found, config)]

    assert "".join(row.values["text"] for row in rows) == content
    numbers = [int(row.id.split("#")[1]) for row in rows]
    assert numbers == sorted(set(numbers))
