"""The data line over made-up text: cost of each stage, of 1 % more data, of its bare parts, and peak memory by size.

    python benchmarks/data_line.py --megabytes 40
    python benchmarks/data_line.py --memory 20 200

CPU seconds of all processes. Documents are drawn from 20,000 words by Zipf's law, so nothing is a copy by chance; of
every file one document stands in the next one too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry import settings
from genfoundry.data import cleaning, dedup, encoding, ingest, leaks, validation
from genfoundry.io import read_records
from genfoundry.modalities import text
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Execution

FILE_MB = 0.5
"""Size of a file of the source: 1 % of 50 MB is one file."""

WORDS = 20_000


def make_file(folder: Path, number: int, megabytes: float = FILE_MB) -> None:
    """One JSONL file of documents of about 2 kB; its first document is the last one of the file before."""
    vocabulary = [f"{'bcdfghklmnprst'[n % 14]}{'aeiou'[n // 14 % 5]}{n:x}" for n in range(WORDS)]
    weights = np.cumsum(1 / np.arange(2, WORDS + 2))

    def document(seed: tuple[int, int]) -> str:
        draws = np.random.default_rng(seed).random(350) * weights[-1]
        return " ".join(vocabulary[place] for place in np.searchsorted(weights, draws))

    count = max(2, int(megabytes * 2**20 / 1900))
    rows = [document((number - 1, count - 1)) if number else document((number, count))]
    rows += [document((number, index)) for index in range(1, count)]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
    (folder / f"{number:05d}.jsonl").write_text(lines)


class Silent:
    """Stands in for the run that takes Great Expectations' pages."""

    def artifact(self, path: Path, folder: str) -> None:
        """Forget the files."""


class Line:
    """The stages of a data set as functions, without DVC."""

    def __init__(self, root: Path, shard: float, execution: Execution, tokenizer: str = "bpe") -> None:
        self.paths, self.source, self.execution = DatasetPaths(root, "data"), root / "raw", execution
        self.ingest_config = text.Ingest(shard=shard)
        self.encode_config = text.Encode(tokenizer=tokenizer)  # type: ignore[arg-type]
        self.clean_config, self.dedup_config, self.split_config = text.Preprocess(), text.Dedup(), settings.Split()

    def stages(self) -> dict[str, Callable[[], Any]]:
        """Each stage by name, in order."""
        paths, split = self.paths, self.split_config
        return {
            "ingest": lambda: ingest.read_source(text, self.source, self.ingest_config, paths),
            "validate": lambda: validation.validate(text, settings.Validation(), paths, Silent()),
            "preprocess": lambda: cleaning.clean_records(text, self.clean_config, split, paths, self.execution),
            "deduplicate": lambda: dedup.drop_copies(text, self.dedup_config, paths),
            "split": lambda: leaks.guard_splits(
                text, split, self.dedup_config, self.clean_config, paths, Silent(), self.execution
            ),
            "encode": lambda: encoding.write_arrays(text, self.encode_config, paths),
        }

    def parts(self) -> dict[str, Callable[[], Any]]:
        """The bare work of a stage: no shards, no pages, no hashes of files."""
        records = list(read_records(self.paths.records)) if self.paths.records.exists() else []
        clean = list(read_records(self.paths.clean)) if self.paths.clean.exists() else []
        return {
            "ingest": lambda: [0 for _ in text.read(self.source, self.ingest_config)],
            "preprocess": lambda: [text.clean(table, self.clean_config) for table in records],
            "split": lambda: [text.fingerprints(table, self.dedup_config) for table in clean],
        }


def seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of this process and of the children that ended."""

    def used() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    before = used()
    function()
    return used() - before


def growth(megabytes: float, shard: float) -> None:
    """Print the cost of the line, then of the same line with 1 % more files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "raw").mkdir()
        count = round(megabytes / FILE_MB)
        for number in range(count):
            make_file(root / "raw", number)
        line = Line(root, shard, Execution(data_executor="serial"))
        import great_expectations  # noqa: F401 -- its import is no stage's work

        full = {name: seconds(stage) for name, stage in line.stages().items()}
        bare = {name: seconds(part) for name, part in line.parts().items()}
        for number in range(max(1, count // 100)):
            make_file(root / "raw", count // 2 * 1000 + number)
            (root / f"raw/{count // 2 * 1000 + number:05d}.jsonl").rename(root / f"raw/{count // 2:05d}x{number}.jsonl")
        more = {name: seconds(stage) for name, stage in line.stages().items()}
        disk = {name: size_of(root / name) / 2**20 for name in ("raw", "artifacts", "cache")}
    print(f"{megabytes:g} MB in {count} files, shards of {shard:g} MB; CPU seconds")
    print("| stage | whole line | bare work | 1 % more | share |\n|---|---|---|---|---|")
    for name, value in full.items():
        part = f"{bare[name]:.1f}" if name in bare else ""
        print(f"| {name} | {value:.1f} | {part} | {more[name]:.1f} | {more[name] / value:.0%} |")
    whole, again = sum(full.values()), sum(more.values())
    print(f"| all | {whole:.1f} | | {again:.1f} | {again / whole:.0%} |")
    print(f"disk, MB: {', '.join(f'{name} {value:.0f}' for name, value in disk.items())}")


def size_of(folder: Path) -> int:
    """Bytes below a folder, of two names for one file only the first."""
    files = {(stat.st_dev, stat.st_ino): stat.st_size for stat in (f.stat() for f in folder.rglob("*") if f.is_file())}
    return sum(files.values())


def memory(sizes: list[float], shard: float) -> None:
    """Print the peak memory of each stage by size of the source: each stage a process of its own."""
    print("| stage | " + " | ".join(f"{size:g} MB" for size in sizes) + " |\n|---|" + "---|" * len(sizes))
    peaks: dict[str, list[float]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "raw").mkdir()
            for number in range(round(size / 5)):
                make_file(Path(folder) / "raw", number, 5)
            for stage in ("ingest", "preprocess", "deduplicate", "split", "encode"):
                command = [sys.executable, __file__, "--stage", stage, "--root", folder, "--shard", str(shard)]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                peaks.setdefault(stage, []).append(float(told))
    for stage, found in peaks.items():
        print(f"| {stage} | " + " | ".join(f"{peak:.0f}" for peak in found) + " |")
    print("MB of memory at most (ru_maxrss), imports among them")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--shard", type=float, default=1, help="ingest.shard, MB")
    parser.add_argument("--memory", type=float, nargs="*", help="sizes in MB: peak memory instead")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        line = Line(options.root, options.shard, Execution(data_executor="serial", data_cache=0), "bytes")
        line.stages()[options.stage]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    elif options.memory:
        memory(options.memory, options.shard)
    else:
        growth(options.megabytes, options.shard)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
