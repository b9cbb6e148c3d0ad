"""Train tokenizers on the training split, and load them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from genfoundry.config.sections.encode import Encode as _Encode
from genfoundry.core.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


BOUNDARY = "<|boundary|>"
"""Name in tokenizer.json of the token before each document; no text is ever encoded to it."""


class Encode(_Encode):
    """How text is tokenized."""

    tokenizer: Literal["bpe", "bytes", "characters"] = "bpe"
    """Byte-level pairs learnt on the training split (Sennrich et al. 2016, arXiv:1508.07909), or UTF-8 bytes, or the
    characters of the training split. All of them give back any text, so bits per byte are right: a character that the
    training split has not costs five tokens for each of its bytes that is unknown too; the report counts these bytes.
    """
    vocab_size: int = Field(default=4096, ge=257)
    """Tokens of the byte pair encoding at most, the boundary and 256 bytes among them."""
    sample: float = Field(default=256.0, gt=0)
    """Megabytes of training text that byte pairs are learnt on at most: the documents of the smallest hash. More text
    moves few of the pairs, but takes its time and memory.
    """


FILE = "tokenizer.json"
"""Name of a tokenizer's file beside the arrays, and in a model."""


def load(folder: Path) -> "Tokenizer":
    """The tokenizer of a folder."""
    from tokenizers import Tokenizer

    path = folder / FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file; run dvc repro")
    return Tokenizer.from_file(str(path))


def boundary(tokenizer: "Tokenizer") -> int:
    """The token that stands before each document."""
    found = tokenizer.token_to_id(BOUNDARY)
    if found is None:
        raise DataError(f"{FILE}: has no token {BOUNDARY!r}, which stands before each document; learn it by encode")
    return int(found)


ESCAPE, *DIGITS = (chr(0xE000 + number) for number in range(5))
"""Letters of the tokens that spell a byte which the training split has not: the escape, then four digits in base 4."""


def train(config: Encode, texts: Iterable[str]) -> "Tokenizer":
    """A tokenizer of that kind, learnt on the texts; the order of the texts does not matter."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if config.tokenizer == "characters":
        return _characters(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size if config.tokenizer == "bpe" else 257,
        special_tokens=[BOUNDARY],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts if config.tokenizer == "bpe" else (), trainer=trainer)
    tree = json.loads(tokenizer.to_str())
    # A special token would match inside texts that spell it; a plain entry is never made by a merge.
    tree["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(tree, ensure_ascii=False))


def _characters(texts: Iterable[str]) -> "Tokenizer":
    """Each character of the texts as one token; a byte that they have not is spelt, so no text is lost."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters, characters = _byte_letters(), sorted({character for text in texts for character in set(text)})
    known = sorted({byte for character in characters for byte in character.encode()})
    vocab = {
        token: number for number, token in enumerate([BOUNDARY, ESCAPE, *DIGITS, *(letters[byte] for byte in known)])
    }
    merges = []
    for character in characters:
        # Merges that join the UTF-8 bytes of a character: no two characters, as only a first byte can begin one.
        left, *rest = (letters[byte] for byte in character.encode())
        for right in rest:
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append((left, right))
            left += right
    spelt = {letters[byte]: _spelling(byte) for byte in range(256) if byte not in known}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    replaced = (normalizers.Replace(letter, digits) for letter, digits in spelt.items())
    tokenizer.normalizer = normalizers.Sequence([normalizers.ByteLevel(), *replaced])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(letters[ord("\n")], "merged_with_previous")
    restored = (decoders.Replace(digits, letter) for letter, digits in spelt.items())
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), *restored, decoders.ByteLevel()])
    return tokenizer


def _spelling(byte: int) -> str:
    """The escape and the four digits of a byte in base 4."""
    return ESCAPE + "".join(DIGITS[(byte >> shift) % 4] for shift in (6, 4, 2, 0))


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (Radford et al. 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]
