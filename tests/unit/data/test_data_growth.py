"""More data: only what is new is worked on, and the bytes are those of a line that remembers nothing."""

import shutil
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, save, smooth, words, write_jsonl

from genfoundry.config.sections.execution import Execution
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import folder_digest, read_json, read_table
from genfoundry.data.deduplicate import removal as dedup
from genfoundry.data.encode import encoding, pinned
from genfoundry.data.ingest import reading as ingest
from genfoundry.data.ingest import sources
from genfoundry.data.preprocess import cleaning
from genfoundry.data.shards.memo import memo_of
from genfoundry.data.split import leaks, leaksearch
from genfoundry.data.split.leaksearch import groups, most_elements
from genfoundry.modalities.common import documents
from genfoundry.modalities.common.tables import files

SERIAL, FORGETFUL = Execution(data_executor="serial", data_cache=1), Execution(data_executor="serial", data_cache=0)


def text_source(folder: Path, files: int = 12) -> Path:
    for number in range(files):
        generator = np.random.default_rng(number)
        rows = [{"text": words(generator, 60)} for _ in range(40)]
        # What is set aside stands at the beginning, in the middle and at the end.
        rows[0], rows[20], rows[39] = {"text": ""}, {"text": 3}, {"no": "text"}
        write_jsonl(folder / f"f{number:02d}.jsonl", rows)
    return folder


def ingested(root: Path, source: Path, execution: Execution, modality: str = "text", **ingestion: object) -> list[str]:
    line = Line(root, modality, source, ingest={"shard": 0.02, "max_rejected": 0.5, **ingestion})
    ingest.read_source(line.modality, source, line.sections["ingest"], line.paths, execution)
    return [folder_digest(line.paths.records), (line.paths.reports / "ingest.json").read_text()]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that are read, as they are read."""
    names: list[str] = []
    pull = sources.Stream.seek

    def seek(stream: sources.Stream, place: sources.Place) -> None:
        unit, record = stream.place
        if place.unit != unit or place.record < record:
            names.extend(name for name, _ in stream.units[place.unit].part.files)
        pull(stream, place)

    monkeypatch.setattr(sources.Stream, "seek", seek)
    return names


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNIT", 8_000)


def test_ingest_reads_what_changed_alone_and_writes_the_same_bytes(tmp_path: Path, read: list[str]) -> None:
    raw, root = text_source(tmp_path / "raw", 24), tmp_path / "line"
    first = ingested(root, raw, SERIAL)
    assert len(read) == 24 and first == ingested(tmp_path / "cold", raw, FORGETFUL)
    read.clear()
    assert ingested(root, raw, SERIAL) == first and not read

    # In the middle, at the end, changed, gone: each time against a line without a memory.
    write_jsonl(raw / "f05x.jsonl", [{"text": "one more, of a few words"}])
    for change in (
        lambda: None,
        lambda: write_jsonl(raw / "f99.jsonl", [{"text": "the last one"}, {"text": ""}]),
        lambda: write_jsonl(raw / "f03.jsonl", [{"text": words(np.random.default_rng(77), 60)} for _ in range(9)]),
        lambda: (raw / "f00.jsonl").unlink(),
    ):
        change()
        read.clear()
        warm = ingested(root, raw, SERIAL)
        assert 0 < len(read) < 12, read
        assert warm == ingested(tmp_path / "cold2", raw, FORGETFUL)


def test_what_is_set_aside_is_counted_once_wherever_a_shard_ends(tmp_path: Path) -> None:
    raw = text_source(tmp_path / "raw", 5)
    for shard in (0.002, 0.005, 0.02, 16):
        for execution in (FORGETFUL, SERIAL, SERIAL):
            ingested(tmp_path / str(shard), raw, execution, shard=shard)
            rejected = read_table(tmp_path / str(shard) / "artifacts/datasets/data/records/rejected.parquet")
            assert rejected["reason"].value_counts().to_dict() == {"empty": 5, "no_text": 10}
            assert rejected["id"].is_unique


def test_pictures_are_units_too_and_ids_from_a_column_are_compared_over_all_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(40):
        save(tmp_path / f"pictures/{'ab'[number % 2]}/{number:02d}.png", smooth(generator))
    root = tmp_path / "line"
    assert len(sources.units(tmp_path / "pictures", Line(root, "image", tmp_path).sections["ingest"], True)) > 2
    first = ingested(root, tmp_path / "pictures", SERIAL, "image")
    assert first == ingested(tmp_path / "cold", tmp_path / "pictures", FORGETFUL, "image")
    assert first == ingested(root, tmp_path / "pictures", SERIAL, "image")

    for name in "ab":
        write_jsonl(tmp_path / f"ids/{name}.jsonl", [{"key": "x", "text": f"{name} " * 9}, {"key": name, "text": name}])
    for execution in (SERIAL, SERIAL):
        ingested(root, tmp_path / "ids", execution, id_column="key")
        rejected = read_table(root / "artifacts/datasets/data/records/rejected.parquet")
        assert rejected["reason"].tolist() == ["duplicate_id"]


def test_a_file_more_changes_one_or_two_units(tmp_path: Path) -> None:
    raw = text_source(tmp_path / "raw", 30)
    config = Line(tmp_path, "text", raw).sections["ingest"]
    before = sources.units(raw, config, True)
    (raw / "f11x.jsonl").write_text("{}\n")

    after = sources.units(raw, config, True)

    assert [file for unit in after for file in unit.part.files] == files(raw) and len(before) > 5
    assert len({unit.digest for unit in after} - {unit.digest for unit in before}) <= 2


def encoded(line: Line, execution: Execution) -> list[str]:
    encoding.write_arrays(line.modality, line.sections["encode"], line.paths, execution)
    return [folder_digest(line.paths.arrays), folder_digest(line.paths.index)]


def test_encode_takes_up_what_is_new_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = text_source(tmp_path / "raw")
    options = {"ingest": {"shard": 0.02, "max_rejected": 0.5}, "encode": {"vocab_size": 300}}
    line = Line(tmp_path / "line", "text", raw, split={"val": 0.2, "test": 0.2}, **options).run()
    texts: list[str] = []
    encode = documents._streams.encode_file

    def watched(part: list[str], folder: Path) -> object:
        texts.extend(part)
        return encode(part, folder)

    watched.__module__, watched.__name__ = encode.__module__, encode.__name__
    monkeypatch.setattr(documents._streams, "encode_file", watched)
    cold = encoded(line, FORGETFUL)
    assert len(texts) == 12 * 37
    shutil.rmtree(memo_of(line.paths, 1).folder)
    texts.clear()
    assert encoded(line, SERIAL) == cold and len(texts) == 12 * 37
    assert encoded(line, SERIAL) == cold and len(texts) == 12 * 37  # nothing anew
    pool = Execution(data_executor="pool", data_workers=2, data_cache=1)
    shutil.rmtree(memo_of(line.paths, 1).folder)
    monkeypatch.setattr(documents._streams, "encode_file", encode)
    assert encoded(line, pool) == cold
    monkeypatch.setattr(documents._streams, "encode_file", watched)

    # Pinned, so that more data change no old token.
    tokenizer = (line.paths.arrays / "tokenizer.json").read_bytes()
    before = np.load(line.paths.arrays / "train_tokens.npy")
    assert pinned.pin(line.paths, line.sections["encode"]) == tmp_path / "line/presets/tokenizers/data.json"
    assert encoded(line, SERIAL) == cold and len(texts) == 12 * 37
    write_jsonl(raw / "f05x.jsonl", [{"text": words(np.random.default_rng(500 + n), 60)} for n in range(10)])
    line.ingest().preprocess().deduplicate().split()
    texts.clear()
    warm = encoded(line, SERIAL)
    # The shards beside the new file are cut anew; the others are known.
    assert 10 <= len(texts) < 12 * 37 / 2
    assert warm == encoded(line, FORGETFUL)
    assert (line.paths.arrays / "tokenizer.json").read_bytes() == tokenizer
    assert len(np.load(line.paths.arrays / "train_tokens.npy")) > len(before)

    # Records that were not in use before are encoded beside those that were.
    ids = read_table(line.paths.splits / "ids.parquet")
    shutil.rmtree(memo_of(line.paths, 1).folder)
    known: set[str] = set()
    for part in (ids.iloc[::3], ids.iloc[::2], ids):
        part.to_parquet(line.paths.splits / "ids.parquet")
        texts.clear()
        few = encoded(line, SERIAL)
        assert len(texts) == len({*part["id"]} - known)
        known |= {*part["id"]}
    assert few == warm


def test_a_pinned_tokenizer_of_other_settings_or_none_is_refused(tmp_path: Path) -> None:
    raw = text_source(tmp_path / "raw", 3)
    options = {"ingest": {"max_rejected": 0.5}, "split": {"val": 0.2, "test": 0.2}}
    line = Line(tmp_path, "text", raw, encode={"vocab_size": 300}, **options).run()
    path = pinned.pin(line.paths, line.sections["encode"])
    other = Line(tmp_path, "text", raw, encode={"vocab_size": 301}, **options)

    with pytest.raises(ConfigError, match=r"encode.vocab_size' is 301, but presets/tokenizers/data.json .* with 300"):
        other.encode()
    path.write_text("{}")
    with pytest.raises(DataError, match="no tokenizer of format 1"):
        line.encode()
    with pytest.raises(ConfigError, match="only text and code have a tokenizer"):
        pinned.pin(line.paths, Line(tmp_path, "image", raw).sections["encode"])


def test_byte_pairs_are_learnt_on_a_sample_by_hash(tmp_path: Path) -> None:
    raw = text_source(tmp_path / "raw", 4)
    options = {"ingest": {"max_rejected": 0.5}, "split": {"val": 0.2, "test": 0.2}}
    learnt = []
    for sample in (256, 0.01):
        line = Line(tmp_path / str(sample), "text", raw, encode={"vocab_size": 400, "sample": sample}, **options).run()
        learnt.append(read_json(line.paths.arrays / "tokenizer.json"))
    index = read_table(line.paths.index / "train.parquet")
    rows = int((index["bytes"].cumsum() <= 10_000).sum())
    texts = line.clean().set_index("id").loc[index["id"][:rows], "content"]

    assert learnt[0] != learnt[1] and 0 < rows < len(index)
    wanted = documents._tokens.train(line.sections["encode"], texts)
    assert wanted.get_vocab() == documents._tokens.load(line.paths.arrays).get_vocab()


def test_groups_of_evaluation_find_what_one_search_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    # What stands in all of them is what blocks of training are for.
    header = words(generator, 30)
    texts = [f"{header} {words(generator, 80)}" for _ in range(150)]
    texts += [f"{text} {words(generator, 60)}" for text in texts[:60]]  # contain or are like others
    source = write_jsonl(tmp_path / "raw.jsonl", [{"text": text} for text in texts])
    split_by = {"val": 0.2, "test": 0.2, "max_leaks": 1000}
    line = Line(tmp_path, "text", source, ingest={"shard": 0.01}, split=split_by, dedup={"threshold": 0.95})
    line.ingest().preprocess().deduplicate()

    def split(execution: Execution) -> list[str]:
        sections = (line.sections[name] for name in ("split", "dedup", "preprocess"))
        leaks.guard_splits(line.modality, *sections, line.paths, None, execution)
        return [folder_digest(line.paths.splits), *((line.paths.reports / f"split.{end}").read_text() for end in
                                                    ("json", "html"))]  # fmt: skip

    one = split(SERIAL)
    assert len(read_table(line.paths.splits / "withheld.parquet")) > 5
    blocks = []
    found = leaksearch.nearest
    monkeypatch.setattr(leaksearch, "nearest", lambda *args: blocks.append(len(args[2])) or found(*args))
    monkeypatch.setattr(leaks, "most_elements", lambda _: 300)
    assert split(SERIAL) == one and len(blocks) > 60 and max(blocks) < 60
    assert split(Execution(data_executor="pool", data_workers=2)) == one


def test_groups_keep_to_their_memory() -> None:
    found = list(groups(np.array([5, 5, 100, 1, 1, 1]), 10))

    assert [group.tolist() for group in found] == [[0, 1], [2], [3, 4, 5]]
    assert [len(group) for group in groups(np.ones(7, np.int64), most_elements(0))] == [7]
    assert list(groups(np.empty(0, np.int64), 1)) == []


def test_columns_alike_make_bytes_alike_whatever_they_came_from(tmp_path: Path) -> None:
    from genfoundry.core.io import write_table

    table = pd.DataFrame({"text": [words(np.random.default_rng(n), 400) for n in range(600)]})
    write_table(tmp_path / "one", table)
    write_table(tmp_path / "parts", pd.concat([table.iloc[:7], table.iloc[7:400], table.iloc[400:]]))

    assert (tmp_path / "one").read_bytes() == (tmp_path / "parts").read_bytes()


def test_artifacts_and_memory_take_two_and_a_half_times_the_text_at_most(tmp_path: Path) -> None:
    """Real text, as made-up words take twice the tokens; DVC's cache is further names of the same files."""
    modules = sorted(Path(pd.__file__).parent.rglob("*.py"))
    rows = [{"text": text} for text in (path.read_text("utf-8")[:30_000] for path in modules) if len(text) > 400]
    write_jsonl(tmp_path / "raw/modules.jsonl", rows[:300])
    line = Line(tmp_path / "line", "text", tmp_path / "raw", ingest={"shard": 1})

    line.ingest()
    split = [line.sections[name] for name in ("split", "dedup", "preprocess")]
    cleaning.clean_records(line.modality, line.sections["preprocess"], split[0], line.paths, SERIAL)
    dedup.drop_copies(line.modality, line.sections["dedup"], line.paths, SERIAL)
    leaks.guard_splits(line.modality, *split, line.paths, execution=SERIAL)
    encoded(line, SERIAL)

    files = [file.stat() for name in ("artifacts", "cache") for file in (tmp_path / "line" / name).rglob("*.*")]
    taken = sum({file.st_ino: file.st_size for file in files if stat.S_ISREG(file.st_mode)}.values())
    canonical = sum(len(content.encode()) for content in line.clean()["content"])
    assert canonical > 2e6
    assert taken <= 2.5 * canonical, taken / canonical
