"""Shards: cut by content, worked on by anyone with the same bytes, and not worked on twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, words, write_shards

from genfoundry.config.sections.execution import Execution
from genfoundry.core.errors import DataError
from genfoundry.core.io import folder_digest, read_records
from genfoundry.core.processes import alive
from genfoundry.data.deduplicate import removal as dedup
from genfoundry.data.encode import encoding
from genfoundry.data.preprocess import cleaning
from genfoundry.data.shards import executor
from genfoundry.data.shards.borders import LEAST, MOST
from genfoundry.data.shards.memo import Memo, memo_of, prune, remembered
from genfoundry.data.split import leaks


def source(folder: Path, files: int = 10, documents: int = 30) -> Path:
    (folder / "raw").mkdir(parents=True)
    for number in range(files):
        generator = np.random.default_rng(number)
        rows = "".join(f'{{"text": "{words(generator, 60)}"}}\n' for _ in range(documents))
        (folder / f"raw/f{number}.jsonl").write_text(rows)
    return folder / "raw"


def line_of(folder: Path, raw: Path) -> Line:
    # By byte: a tokenizer of byte pairs would take longest and is tested where arrays are.
    line = Line(
        folder, "text", raw, ingest={"shard": 0.02}, split={"val": 0.2, "test": 0.2}, encode={"tokenizer": "bytes"}
    )
    return line.ingest()


def results(line: Line, execution: Execution) -> list[str]:
    """Digests of what the stages that work on shards write; of ``clean`` first, which alone tells shards apart."""
    sections = line.sections
    cleaning.clean_records(line.modality, sections["preprocess"], sections["split"], line.paths, execution)
    dedup.drop_copies(line.modality, sections["dedup"], line.paths, execution)
    leaks.guard_splits(
        line.modality, *(sections[name] for name in ("split", "dedup", "preprocess")), line.paths, None, execution
    )
    encoding.write_arrays(line.modality, sections["encode"], line.paths, execution)
    paths, stages = line.paths, ("preprocess", "deduplicate", "split")
    reports = [(paths.reports / f"{name}.{end}").read_text() for name in stages for end in ("json", "html")]
    folders = (paths.clean, paths.unique, paths.copies, paths.splits, paths.arrays, paths.index)
    return [*map(folder_digest, folders), *reports]


def test_a_pool_gives_the_bytes_of_one_process(tmp_path: Path) -> None:
    raw = source(tmp_path)
    line = line_of(tmp_path / "line", raw)
    assert len(list(line.paths.records.glob("part-*"))) >= 4

    serial = results(line, Execution(data_executor="serial", data_cache=0))
    pool = results(line, Execution(data_executor="pool", data_workers=2, data_cache=0))

    assert pool == serial and not list(line.paths.clean.glob(".*"))


def test_ray_gives_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    line = line_of(tmp_path / "line", source(tmp_path))

    serial = results(line, Execution(data_executor="serial", data_cache=0))
    ray = results(line, Execution(data_executor="ray", data_workers=2, data_cache=0))

    assert ray == serial


def test_one_shard_or_many_are_the_same_records(tmp_path: Path) -> None:
    raw = source(tmp_path)
    many, one = line_of(tmp_path / "many", raw), Line(tmp_path / "one", "text", raw).ingest()
    one.sections |= {name: many.sections[name] for name in ("split", "encode")}
    execution = Execution(data_executor="serial", data_cache=0)

    assert results(many, execution)[1:] == results(one, execution)[1:]
    assert len(list(one.paths.clean.glob("part-*"))) == 1
    pd.testing.assert_frame_equal(many.clean(), one.clean())


@pytest.mark.parametrize("kind", ["serial", "pool"])
def test_an_error_in_a_shard_is_the_stage_s_error(kind: str) -> None:
    execution = Execution(data_executor=kind, data_workers=2)

    with pytest.raises(DataError, match="three is wrong"):
        list(executor.run(_refuse, range(6), execution))


def _refuse(number: int) -> int:
    if number == 3:
        raise DataError("three is wrong")
    return number


def test_results_come_in_the_order_of_the_tasks_and_few_wait() -> None:
    execution = Execution(data_executor="pool", data_workers=2)

    assert list(executor.run(_slow_first, range(7), execution)) == [n * n for n in range(7)]


def _slow_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number * number


def test_auto_starts_no_pool_for_little_work() -> None:
    two = Execution(data_workers=2)

    assert executor.choose(two, 10, executor.WORTH - 1) == "serial"
    assert executor.choose(two, 10, executor.WORTH) == "pool"
    assert executor.choose(two, 1, 10 * executor.WORTH) == "serial"
    assert executor.choose(Execution(data_workers=1), 10, 10 * executor.WORTH) == "serial"


WAITS = """
import sys
sys.path[:0] = {path!r}
from genfoundry.data.shards import executor
from genfoundry.config.sections.execution import Execution
from test_data_executor import _tell_and_wait
if __name__ == "__main__":
    list(executor.run(_tell_and_wait, [{folder!r}] * 2, Execution(data_executor="pool", data_workers=2)))
"""


def _tell_and_wait(folder: str) -> None:
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def test_workers_die_with_a_killed_stage(tmp_path: Path) -> None:
    path = [str(Path(__file__).parent), *sys.path]
    script = tmp_path / "script.py"
    script.write_text(WAITS.format(path=path, folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)])
    try:
        pids = _wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 60) and [
            int(file.stem) for file in tmp_path.glob("*.pid")
        ]
        assert pids and all(map(alive, pids))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    assert _wait_for(lambda: not any(map(alive, pids)), 20)


def _wait_for(ready: "object", seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


def table_of(seed: int, count: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    digests = ["".join(f"{byte:02x}" for byte in generator.bytes(32)) for _ in range(count)]
    content = ["x" * int(size) for size in generator.integers(100, 3000, count)]
    return pd.DataFrame({"id": [f"{seed}/{n}" for n in range(count)], "sha256": digests, "content": content})


def shards(
    folder: Path, tables: list[pd.DataFrame], megabytes: float = 0.05, records: int = 0
) -> list[tuple[str, ...]]:
    from genfoundry.core.io import publish_folder

    with publish_folder(folder) as partial:
        write_shards(partial, tables, megabytes, records)
    return [tuple(shard["id"]) for shard in read_records(folder)]


def test_a_file_more_changes_few_shards_wherever_it_comes(tmp_path: Path) -> None:
    tables = [table_of(seed, 100) for seed in range(40)]
    before = shards(tmp_path / "a", tables)
    sizes = {row: len(text) for table in tables for row, text in zip(table["id"], table["content"], strict=True)}

    assert [row for shard in before for row in shard] == [row for table in tables for row in table["id"]]
    held = [sum(sizes[row] for row in shard) for shard in before]
    assert 60 < len(before) < 180 and max(held) <= MOST * 0.05 * 2**20 + 3000
    assert min(held[:-1]) >= LEAST * 0.05 * 2**20
    for place in (0, 17, 40):
        after = shards(tmp_path / f"b{place}", [*tables[:place], table_of(99, 5), *tables[place:]])
        assert len({*after} - {*before}) <= 4


def test_shards_don_t_depend_on_how_the_records_came(tmp_path: Path) -> None:
    tables = [table_of(seed, 100) for seed in range(6)]

    assert shards(tmp_path / "a", tables) == shards(tmp_path / "b", [pd.concat(tables)])


def test_small_records_end_a_shard_by_their_number(tmp_path: Path) -> None:
    by_size, by_number = (
        [len(shard) for shard in shards(tmp_path / str(records), [table_of(7, 2000)], 1, records)]
        for records in (0, 50)
    )

    assert len(by_size) <= 6
    assert 25 <= len(by_number) <= 60 and max(by_number) <= 50 * MOST + 1 and min(by_number[:-1]) >= 50 * LEAST


def test_what_was_cleaned_before_is_not_cleaned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = source(tmp_path)
    line = line_of(tmp_path / "line", raw)
    execution = Execution(data_executor="serial", data_cache=1)
    cleaned = []
    clean = line.modality.clean
    monkeypatch.setattr(line.modality, "clean", lambda *args: (cleaned.append(1), clean(*args))[1])

    first = results(line, execution)
    total = len(cleaned)
    assert total == len(list(line.paths.records.glob("part-*")))
    assert results(line, execution) == first and len(cleaned) == total

    (raw / "f3x.jsonl").write_text('{"text": "one document more, of a few words"}\n')
    line.ingest()
    results(line, execution)
    assert 1 <= len(cleaned) - total <= 3

    line.sections["preprocess"] = line.sections["preprocess"].model_copy(update={"min_characters": 100})
    before = len(cleaned)
    results(line, execution)
    assert len(cleaned) - before == len(list(line.paths.records.glob("part-*")))


def memo(tmp_path: Path, limit: float = 1e9, basis: str = "code") -> Memo:
    return Memo(tmp_path / "memo", limit, basis)


def fill(memo: Memo, tmp_path: Path, key: str, content: bytes = b"result") -> tuple[bool, bytes]:
    target = tmp_path / "out"
    if target.exists():
        (target / "file").unlink()
        target.rmdir()
    hit = remembered(memo, key, target, lambda folder: (folder / "file").write_bytes(content) and None)
    return hit, (target / "file").read_bytes()


def test_a_memo_answers_for_the_same_key_and_code_alone(tmp_path: Path) -> None:
    assert fill(memo(tmp_path), tmp_path, "a") == (False, b"result")
    assert fill(memo(tmp_path), tmp_path, "a", b"other") == (True, b"result")
    assert fill(memo(tmp_path), tmp_path, "b", b"other") == (False, b"other")
    assert fill(memo(tmp_path, basis="new code"), tmp_path, "a", b"newer") == (False, b"newer")
    assert fill(memo(tmp_path, limit=0), tmp_path, "a", b"none") == (False, b"none")


def test_a_result_that_was_changed_on_disk_is_made_again(tmp_path: Path) -> None:
    fill(memo(tmp_path), tmp_path, "a")
    (held,) = (tmp_path / "memo").iterdir()
    (held / "file").unlink()
    (held / "file").write_bytes(b"rotten")

    assert fill(memo(tmp_path), tmp_path, "a") == (False, b"result")
    assert fill(memo(tmp_path), tmp_path, "a") == (True, b"result")


def test_the_memo_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    for number, key in enumerate("abc"):
        fill(memo(tmp_path), tmp_path, key, bytes(1000))
        for held in (tmp_path / "memo").iterdir():
            if held.stat().st_mtime > 1000:
                os.utime(held, (number + 1, number + 1))
    fill(memo(tmp_path), tmp_path, "a")  # used again: b is the oldest now

    prune(memo(tmp_path, limit=2000))

    assert [fill(memo(tmp_path), tmp_path, key, b"")[0] for key in "acb"] == [True, True, False]


def test_what_an_output_holds_too_takes_no_room_of_the_memo(tmp_path: Path) -> None:
    fill(memo(tmp_path), tmp_path, "a", bytes(5000))

    prune(memo(tmp_path, limit=1000))
    assert len(list((tmp_path / "memo").iterdir())) == 1
    (tmp_path / "out/file").unlink()
    prune(memo(tmp_path, limit=1000))
    assert not list((tmp_path / "memo").iterdir())


def test_the_memo_lies_under_the_state_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = line_of(tmp_path / "line", source(tmp_path))
    monkeypatch.setenv("GENFOUNDRY_STATE", str(tmp_path / "state"))

    assert memo_of(line.paths, 2) == Memo(tmp_path / "state/cache/shards", 2 * 2**30, memo_of(line.paths, 1).basis)


def test_a_memo_rests_on_the_modules_that_make_its_results(tmp_path: Path) -> None:
    line = line_of(tmp_path / "line", source(tmp_path))
    found = [
        memo_of(line.paths, 1, f"genfoundry.data.{stage}", f"genfoundry.modalities.{modality}").basis
        for stage in ("encode.encoding", "preprocess.cleaning")
        for modality in ("text", "image")
    ]

    assert len(set(found)) == 4
