"""Arrays: what stands in them, and that texts and pictures come back out of them."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, save, smooth, words, write_jsonl

from genfoundry.config.conditions import Number
from genfoundry.config.specs import GridSpec, TokenSpec, parse_spec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json, read_table
from genfoundry.modalities import image, text
from genfoundry.modalities.common import streams as _streams
from genfoundry.modalities.common import tokens as _tokens

STRANGE = [
    "Grüße, 世界! 🙂",
    "a <|boundary|> inside",
    "tabs\tand\n\nlines",
    "e\u0301 ﷽",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]


def text_line(tmp_path: Path, **encode: object) -> Line:
    generator = np.random.default_rng(0)
    rows = [
        {"text": f"{words(generator, 40)} {STRANGE[number % len(STRANGE)]}", "kind": f"k{number % 2}"}
        for number in range(60)
    ]
    source = write_jsonl(tmp_path / "raw.jsonl", rows)
    config = {"vocab_size": 400, **encode}
    return Line(
        tmp_path, "text", source, ingest={"label_column": "kind"}, split={"test": 0.3, "val": 0.2}, encode=config
    ).run()


@pytest.mark.parametrize("tokenizer", ["bpe", "bytes", "characters"])
def test_every_document_comes_back_from_the_stream(tmp_path: Path, tokenizer: str) -> None:
    line = text_line(tmp_path, tokenizer=tokenizer)
    arrays = line.paths.arrays
    spec = parse_spec(read_json(arrays / "spec.json"))
    contents = dict(zip(line.clean()["id"], line.clean()["content"], strict=True))
    assert isinstance(spec, TokenSpec) and spec.boundary == 0 and spec.labels == ("k0", "k1")

    for split in ("train", "val", "test"):
        tokens, offsets = (np.load(arrays / f"{split}_{name}.npy") for name in ("tokens", "offsets"))
        index = read_table(line.paths.index / f"{split}.parquet")
        assert tokens.dtype == np.uint16 and offsets.dtype == np.int64
        assert len(offsets) == len(index) + 1 and offsets[0] == 0 and offsets[-1] == len(tokens)
        assert np.flatnonzero(tokens == 0).tolist() == offsets[:-1].tolist()
        assert tokens.max() < spec.vocab_size
        wanted = [contents[name] for name in index["id"]]
        documents = [tokens[a + 1 : b].tolist() for a, b in pairwise(offsets)]
        assert _tokens.load(arrays).decode_batch(documents) == wanted
        assert np.load(arrays / f"{split}_bytes.npy").tolist() == [len(one.encode()) for one in wanted]
        assert np.load(arrays / f"{split}_characters.npy").tolist() == [len(one) for one in wanted]
        assert np.load(arrays / f"{split}_words.npy").tolist() == [len(one.split()) for one in wanted]
        hashes = np.load(arrays / f"{split}_records.npy")
        assert hashes.dtype == np.uint64
        assert [f"{number:016x}" for number in hashes] == [digest[:16] for digest in index["sha256"]]
        assert set(index["source"]) == {"raw.jsonl"}
        assert (index["characters"] == [len(one) for one in wanted]).all()
        labels = np.load(arrays / f"{split}_labels.npy")
        assert [spec.labels[number] for number in labels] == list(index["label"])
        assert index["sha256"].is_monotonic_increasing and list(index["row"]) == list(range(len(index)))
        if tokenizer == "bytes":
            assert [len(one) for one in documents] == [len(one.encode()) for one in wanted]
        if tokenizer == "characters":
            seen = set("".join(contents[i] for i in read_table(line.paths.index / "train.parquet")["id"]))
            for one, document in zip(wanted, documents, strict=True):
                assert len(document) == len(one) or not set(one) <= seen


def test_the_tokenizer_learns_from_training_records_alone_in_any_order() -> None:
    texts = [words(np.random.default_rng(number), 50) for number in range(40)]
    config = text.Encode(vocab_size=500)

    forward, backward = _tokens.train(config, texts), _tokens.train(config, texts[::-1])

    assert forward.to_str() == backward.to_str()
    assert forward.token_to_id(_tokens.BOUNDARY) == 0 and forward.get_vocab_size() <= 500
    assert 0 not in forward.encode(f"x {_tokens.BOUNDARY} y").ids


def test_characters_are_tokens_and_unknown_bytes_are_spelt() -> None:
    tokenizer = _tokens.train(text.Encode(tokenizer="characters"), ["b\u00e9\n", "a\U0001f389"])
    known = len({*b"ba\n", *"\u00e9\U0001f389".encode()}) + 1 + 3  # bytes, and the joints of two characters

    assert tokenizer.get_vocab_size() == 1 + 5 + known
    assert tokenizer.token_to_id(_tokens.BOUNDARY) == 0
    assert len(tokenizer.encode("ab\u00e9\U0001f389\n").ids) == 5
    # x: escape and four digits; e with another accent: its first byte is known, its second is not.
    assert len(tokenizer.encode("x").ids) == 5 and len(tokenizer.encode("\u00e8").ids) == 6
    for one in ("", "a b", _tokens.BOUNDARY, "\ue000\ue001", *STRANGE, "".join(map(chr, range(1, 800)))):
        found = tokenizer.encode(one).ids
        assert tokenizer.decode(found) == one and 0 not in found


def test_the_boundary_is_the_token_that_the_tokenizer_has_for_it(tmp_path: Path) -> None:
    tree = json.loads(_tokens.train(text.Encode(tokenizer="bytes"), []).to_str())
    vocab = tree["model"]["vocab"]
    moved = next(token for token, number in vocab.items() if number == 7)
    vocab[_tokens.BOUNDARY], vocab[moved] = 7, 0
    (tmp_path / _tokens.FILE).write_text(json.dumps(tree), encoding="utf-8")

    found = _streams.encode_file(["a", "bc"], tmp_path)

    assert [found.tokens[start] for start in found.ptr[:-1]] == [7, 7] and (found.tokens == 7).sum() == 2
    del vocab[_tokens.BOUNDARY]
    (tmp_path / _tokens.FILE).write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer.json: has no token '<\|boundary\|>'"):
        _streams.encode_file(["a"], tmp_path)


def test_the_report_counts_what_the_training_split_does_not_know(tmp_path: Path) -> None:
    tokenizer = _tokens.train(text.Encode(tokenizer="characters"), ["abc"])
    table = pd.DataFrame({"row": [0, 1], "content": ["abz\u00e9", "cab"]})

    report = _streams.write_split(tokenizer, _tokens.boundary(tokenizer), iter([table]), 2, tmp_path, "val")

    # z is one unknown byte, the accented letter two: 5 known tokens and 3 * 5 for 8 bytes.
    assert report == {"records": 2, "tokens": 20, "bytes": 8, "bytes_per_token": 0.4, "unknown_bytes": 3}


def test_the_report_counts_records_tokens_and_bytes(tmp_path: Path) -> None:
    line = text_line(tmp_path, tokenizer="bytes")

    report = line.report("encode")

    assert report["records"] == 60 and report["vocabulary"] == 257 and report["labels"] == 2
    assert report["train"]["tokens"] == report["train"]["bytes"] and report["train"]["bytes_per_token"] == 1.0


def test_pictures_become_rows_in_the_order_of_their_hash(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for number in range(60):
        save(tmp_path / f"raw/{'ab'[number % 2]}/{number}.png", smooth(generator, 12))

    line = Line(tmp_path, "image", tmp_path / "raw", split={"test": 0.3, "val": 0.2}).run()

    spec = parse_spec(read_json(line.paths.arrays / "spec.json"))
    assert spec == GridSpec(channels=3, shape=(12, 12), labels=("a", "b"))
    clean = line.clean().set_index("id")
    for split in ("train", "val", "test"):
        grid, labels = np.load(line.paths.arrays / f"{split}.npy"), np.load(line.paths.arrays / f"{split}_labels.npy")
        index = read_table(line.paths.index / f"{split}.parquet")
        assert grid.dtype == np.uint8 and grid.flags.c_contiguous and grid.shape == (len(index), 3, 12, 12)
        assert index["source"].tolist() == [name.split("/")[0] for name in index["id"]]
        for row, name in zip(grid, index["id"], strict=True):
            assert row.transpose(1, 2, 0).tobytes() == clean.loc[name, "content"]
        assert [spec.labels[number] for number in labels] == [name[0] for name in index["id"]]
        assert index["sha256"].is_monotonic_increasing


def test_labels_for_some_records_only_are_refused(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for number in range(30):
        save(tmp_path / f"raw/a/{number}.png", smooth(generator, 12))
    save(tmp_path / "raw/stray.png", smooth(generator, 12))

    with pytest.raises(DataError, match=r"1 of 31 records have no label, such as stray.png"):
        Line(tmp_path, "image", tmp_path / "raw", split={"test": 0.3, "val": 0.2}).run()


def test_labels_for_some_texts_only_are_no_condition(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(2)
    rows = [{"text": words(generator, 30), "topic": "a" if number % 3 else None} for number in range(30)]
    write_jsonl(tmp_path / "raw/texts.jsonl", rows)

    line = Line(tmp_path, "text", tmp_path / "raw", ingest={"label_column": "topic"}, split={"test": 0.3, "val": 0.2})
    line.run()

    assert parse_spec(read_json(line.paths.arrays / "spec.json")).asked == {}
    report = read_json(line.paths.reports / "encode.json")
    assert (report["labels"], report["unlabelled"]) == (0, 10)
    assert "10 of 30 records have no label" in capsys.readouterr().out


def test_a_different_shape_in_a_later_shard_is_refused(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    tables = []
    for side in (8, 9):
        save(tmp_path / f"{side}/x.png", smooth(generator, side))
        table = Line(tmp_path / f"{side}", "image", tmp_path / f"{side}/x.png").ingest().preprocess().clean()
        tables.append(table.assign(row=0))
    with pytest.raises(DataError, match="images differ in shape"):
        image.encode(lambda split: iter(tables), {"train": 2}, image.Encode(), tmp_path)


def test_columns_of_texts_become_conditions_of_their_documents(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        {
            "text": words(generator, 20 + number),
            "kind": f"k{number % 2}",
            "book": f"book {number % 3}",
            "from": "xy"[number % 2],
            "score": number / 2,
        }
        for number in range(60)
    ]
    source = write_jsonl(tmp_path / "raw.jsonl", rows)
    conditions = {
        "group": {"kind": "text", "length": 9},
        "characters": {"kind": "number"},
        "source": {"kind": "classes"},
        "lines": {"kind": "classes"},
        "score": {"kind": "number"},
    }
    line = Line(
        tmp_path,
        "text",
        source,
        ingest={"label_column": "kind", "group_column": "book", "source_column": "from", "fact_columns": ["score"]},
        split={"test": 0.3, "val": 0.2},
        encode={"tokenizer": "bytes", "conditions": conditions},
    ).run()

    spec = parse_spec(read_json(line.paths.arrays / "spec.json"))
    assert sorted(spec.asked) == sorted(["label", *conditions])
    for split in ("train", "val", "test"):
        index = read_table(line.paths.index / f"{split}.parquet")
        held = {name: np.load(line.paths.arrays / f"{split}_condition_{name}.npy") for name in conditions}
        assert [bytes(int(one) - 1 for one in row if one).decode() for row in held["group"]] == list(index["group"])
        assert held["characters"].tolist() == list(index["characters"])
        assert ["xy"[number] for number in held["source"]] == list(index["source"])
        assert held["score"].tolist() == [float(score) for score in index["score"]]
        # A column of numbers can be classes too: their names are the numbers in words.
        assert spec.conditions["lines"].names == ("1",) and not held["lines"].any()


def test_a_column_of_facts_must_be_new_and_a_number_where_it_is_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ingest.fact_columns: label, source is a column of every document; rename"):
        next(text.read(tmp_path, text.Ingest(fact_columns=("source", "label"))))
    assert Number(low=0, high=1).of_records("score", ["1e3", "-2", 3]).tolist() == [1000.0, -2.0, 3.0]
    for value in ("two", "nan", None):
        with pytest.raises(ConfigError, match=r"score is .*; needs a finite number"):
            Number(low=0, high=1).of_records("score", [value])


def test_a_condition_without_its_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"encode.conditions: no column 'charcters' .*did you mean 'characters'"):
        text_line(tmp_path, conditions={"charcters": {"kind": "number"}})
