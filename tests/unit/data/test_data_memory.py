"""Memory of the data line follows its settings, not its data: ten times as many in the same room."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dataline import words

STAGE = """
import json, resource, sys
from pathlib import Path
sys.path[:0] = {path!r}
from dataline import Line
line = Line(
    Path({root!r}), "text", Path({root!r}) / "raw", ingest={{"shard": 0.5}}, dedup={{"memory": 2}},
    encode={{"tokenizer": {tokenizer!r}, "sample": 1}},
)
getattr(line, {stage!r})()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

LESS, MORE = 5, 50
"""Megabytes of text; the search for copies may take 2."""

GROWTH = 30
"""Megabytes that tables of ids and the allocator may add; a stage that held its text would add 45 at least."""


def peaks(root: Path, megabytes: int) -> dict[str, float]:
    """Peak memory in MB of each stage, a process each."""
    (root / "raw").mkdir(parents=True)
    for number in range(megabytes):
        generator = np.random.default_rng(number)
        rows = [json.dumps({"text": words(generator, 1000)}) for _ in range(170)]
        # Near copies, and training records that contain others.
        rows += [rows[0].replace("w1", "v1", 1), json.dumps({"text": json.loads(rows[1])["text"][:-3000]})]
        (root / f"raw/{number:03d}.jsonl").write_text("\n".join(rows))
    found = {}
    for stage in ("ingest", "preprocess", "deduplicate", "split", "encode"):
        script = STAGE.format(
            path=[str(Path(__file__).parents[2] / "support")], root=str(root), stage=stage, tokenizer="bpe"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[stage] = float(done.stdout)
    return found


@pytest.mark.long
def test_ten_times_the_data_take_the_same_memory(tmp_path: Path) -> None:
    few = peaks(tmp_path / "few", LESS)
    many = peaks(tmp_path / "many", MORE)

    assert {stage: many[stage] - few[stage] for stage in few if many[stage] - few[stage] > GROWTH} == {}, (few, many)
