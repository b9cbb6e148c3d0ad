"""The data line over text: cost of each stage, of 1 % more data, of its bare parts, of disk, and peak memory.

    python benchmarks/data_line.py --megabytes 40                 # 1 % more, with the tokenizer pinned
    python benchmarks/data_line.py --memory 20 200                # peak memory by size of the source
    python benchmarks/data_line.py --real 1000 --limit 2000       # 1 GB of real text, each stage within 2 GB
    python benchmarks/data_line.py --images data/cifar10          # pictures: 1 % of each folder comes later

CPU seconds of all processes; of the line over grown data the medians of three times, each with 1 % more. Made-up
documents are drawn from 20,000 words by Zipf's law, so nothing is a copy by
chance; of every file one document stands in the next one too. Real text is the source code of the installed packages,
again and again, each time with one word in twenty changed: copies of one another, below the threshold. A stage with a
limit is a process of its own in which no more than that many megabytes of data can be had (RLIMIT_DATA), or,
with ``--cgroup FOLDER``, a process in that memory cgroup, whose limit it writes: there what is used counts, not what
libraries reserve.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.split import Split
from genfoundry.config.sections.validation import Validation
from genfoundry.core.io import read_records
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.deduplicate import removal as dedup
from genfoundry.data.encode import encoding, pinned
from genfoundry.data.ingest import reading as ingest
from genfoundry.data.preprocess import cleaning
from genfoundry.data.similarity import keepers
from genfoundry.data.split import leaks
from genfoundry.data.validate import validation
from genfoundry.modalities import image, text
from genfoundry.modalities.common import tokens

if TYPE_CHECKING:
    import pandas as pd

TURNS = 3
"""Times that a line over grown data is run: the medians are printed."""

FILE_MB = 0.25
"""Size of a file of the source: 1 % of 25 MB is one file."""

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


def make_real(folder: Path, megabytes: float) -> None:
    """JSONL files of source code, edited anew in each round, until there is enough."""
    paths = sorted(Path(np.__file__).parents[1].rglob("*.py"))
    made = number = turn = 0
    lines: list[str] = []
    held = 0
    while made < megabytes * 1e6:
        for path in paths:
            text = path.read_text("utf-8", errors="ignore")[:40_000]
            if len(text) < 400:
                continue
            generator = np.random.default_rng([turn, *path.name.encode()[:8], len(text)])
            pieces = text.split(" ")
            for place in np.flatnonzero(generator.random(len(pieces)) < (0.05 if turn else 0)).tolist():
                pieces[place] = f"v{generator.integers(1 << 30):x}"
            text = " ".join(pieces)
            lines.append(json.dumps({"text": text}) + "\n")
            made, held = made + len(text), held + len(text)
            if held > 4e6 or made >= megabytes * 1e6:
                (folder / f"{number:05d}.jsonl").write_text("".join(lines), "utf-8")
                lines, held, number = [], 0, number + 1
            if made >= megabytes * 1e6:
                break
        turn += 1


class Silent:
    """Stands in for the run that takes Great Expectations' pages."""

    def artifact(self, path: Path, folder: str) -> None:
        """Forget the files."""


class Line:
    """The stages of a data set as functions, without DVC."""

    def __init__(
        self, root: Path, shard: float, execution: Execution, tokenizer: str = "bpe", limit: float = 0
    ) -> None:
        self.paths, self.source, self.execution = DatasetPaths(root, "data"), root / "raw", execution
        self.modality: Any = text
        self.ingest_config: Any = text.Ingest(shard=shard)
        self.encode_config: Any = text.Encode(tokenizer=tokenizer)  # type: ignore[arg-type]
        # A third of a limit is for the search for copies, the rest for what is imported and for tables of ids.
        self.dedup_config: Any = text.Dedup(memory=limit / 3) if limit else text.Dedup()
        self.clean_config: Any = text.Preprocess()
        self.split_config = Split()

    @classmethod
    def of_images(cls, root: Path, execution: Execution) -> "Line":
        """The line of pictures of 32 pixels."""
        line = cls(root, 1, execution)
        line.modality, line.ingest_config, line.encode_config = image, image.Ingest(), image.Encode()
        line.clean_config, line.dedup_config = image.Preprocess(height=32, width=32, mode="RGB"), image.Dedup()
        return line

    def stages(self) -> dict[str, Callable[[], Any]]:
        """Each stage by name, in order."""
        modality, paths, split = self.modality, self.paths, self.split_config
        return {
            "ingest": lambda: ingest.read_source(modality, self.source, self.ingest_config, paths, self.execution),
            "validate": lambda: validation.validate(modality, Validation(), paths, Silent()),
            "preprocess": lambda: cleaning.clean_records(modality, self.clean_config, split, paths, self.execution),
            "deduplicate": lambda: dedup.drop_copies(modality, self.dedup_config, paths, self.execution),
            "split": lambda: leaks.guard_splits(
                modality, split, self.dedup_config, self.clean_config, paths, Silent(), self.execution
            ),
            "encode": lambda: encoding.write_arrays(modality, self.encode_config, paths, self.execution),
        }

    def parts(self) -> dict[str, Callable[[], Any]]:
        """The bare work of a stage: no shards, no pages, no hashes of files."""
        records = list(read_records(self.paths.records)) if self.paths.records.exists() else []
        clean = list(read_records(self.paths.clean)) if self.paths.clean.exists() else []
        return {
            "ingest": lambda: [0 for _ in text.read(self.source, self.ingest_config)],
            "preprocess": lambda: [text.clean(table, self.clean_config) for table in records],
            "deduplicate": lambda: self._kept(clean),
            "split": lambda: [text.fingerprints(table, self.dedup_config) for table in clean],
            "encode": lambda: self._tokens(clean),
        }

    def _kept(self, clean: "list[pd.DataFrame]") -> None:
        """Which documents stay, fingerprints and join."""
        prints = keepers.join([text.fingerprints(table, self.dedup_config) for table in clean])
        keepers.keep(prints, keepers.Rule(self.dedup_config.threshold))

    def _tokens(self, clean: "list[pd.DataFrame]") -> None:
        """A tokenizer, and the tokens of all documents."""
        texts = [one for table in clean for one in table["content"]]
        tokenizer = tokens.train(self.encode_config, texts)
        for start in range(0, len(texts), 1024):
            tokenizer.encode_batch_fast(texts[start : start + 1024])


def seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of this process and of the children that ended."""

    def used() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    before = used()
    function()
    return used() - before


def median_of(line: Line, change: Callable[[int], None]) -> dict[str, float]:
    """Median CPU seconds of each stage over ``TURNS``, before each of which the source is changed."""
    found: dict[str, list[float]] = {}
    for turn in range(TURNS):
        change(turn)
        for name, stage in line.stages().items():
            found.setdefault(name, []).append(seconds(stage))
    return {name: statistics.median(values) for name, values in found.items()}


def growth(megabytes: float, shard: float) -> None:
    """Print the cost of the line, then of the same line with 1 % more files, three times."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "raw").mkdir()
        count = round(megabytes / FILE_MB)
        for number in range(count):
            make_file(root / "raw", number)
        line = Line(root, shard, Execution(data_executor="serial"))
        import great_expectations  # noqa: F401 -- its import is no stage's work

        warm_up(root / "warm-up")
        full = {name: seconds(stage) for name, stage in line.stages().items()}
        pinned.pin(line.paths, line.encode_config)

        def add(turn: int) -> None:
            for number in range(max(1, count // 100)):
                new = (turn + 1) * count * 1000 + number
                make_file(root / "raw", new)
                (root / f"raw/{new:05d}.jsonl").rename(root / f"raw/{count // 2 + turn:05d}x{number}.jsonl")

        more = median_of(line, add)
        again = median_of(line, lambda turn: None)
        bare = {name: seconds(part) for name, part in line.parts().items()}
        disk = disk_of(root)
    print(f"{megabytes:g} MB in {count} files, shards of {shard:g} MB; CPU seconds")
    print("| stage | whole line | bare work | 1 % more | share | nothing more |\n|---|---|---|---|---|---|")
    for name, value in full.items():
        part = f"{bare[name]:.1f}" if name in bare else ""
        print(f"| {name} | {value:.1f} | {part} | {more[name]:.1f} | {more[name] / value:.0%} | {again[name]:.1f} |")
    whole, grown, same = (sum(found.values()) for found in (full, more, again))
    print(f"| all | {whole:.1f} | {sum(bare.values()):.1f} | {grown:.1f} | {grown / whole:.0%} | {same:.1f} |")
    print(f"disk, MB: {disk}")


def images(folder: Path) -> None:
    """Print the cost of the line over a folder of pictures, then with 1 % more of each sub-folder, three times."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        root = Path(scratch)
        line = Line.of_images(root, Execution(data_executor="serial"))
        import great_expectations  # noqa: F401 -- its import is no stage's work

        def add(chosen: list[Path], raw: Path) -> None:
            for path in chosen:
                target = raw / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)

        add(files[:: max(1, len(files) // 400)], root / "warm-up/raw")
        for stage in (
            Line.of_images(root / "warm-up", Execution(data_executor="serial", data_cache=0)).stages().values()
        ):
            stage()
        names: dict[Path, list[Path]] = {}
        for path in files:
            names.setdefault(path.parent, []).append(path)
        later: list[list[Path]] = [[] for _ in range(TURNS)]
        for mine in names.values():
            share = len(mine) // 100
            for turn, chosen in enumerate(later):
                chosen += mine[len(mine) - (TURNS - turn) * share :][:share]
        add(sorted({*files}.difference(*later)), root / "raw")
        full = {name: seconds(stage) for name, stage in line.stages().items()}
        more = median_of(line, lambda turn: add(later[turn], root / "raw"))
        again = median_of(line, lambda turn: None)
        kept = size_of([root / "cache"]) / 1e6
    print(f"{len(files)} pictures; CPU seconds")
    print("| stage | whole line | 1 % more | share | nothing more |\n|---|---|---|---|---|")
    for name, value in full.items():
        print(f"| {name} | {value:.1f} | {more[name]:.1f} | {more[name] / value:.0%} | {again[name]:.1f} |")
    whole, grown, same = (sum(found.values()) for found in (full, more, again))
    print(f"| all | {whole:.1f} | {grown:.1f} | {grown / whole:.0%} | {same:.1f} |\nremembered, MB: {kept:.1f}")


def warm_up(root: Path) -> None:
    """A line of three files: imports, kernels and templates are loaded, which each process of a stage does once."""
    (root / "raw").mkdir(parents=True)
    for number in range(3):
        make_file(root / "raw", 10**6 + number, 0.2)
    for stage in Line(root, 1, Execution(data_executor="serial", data_cache=0)).stages().values():
        stage()


def disk_of(root: Path) -> str:
    """Megabytes of the source, of the canonical text, and of artifacts and memory, of two names for one file one."""
    clean = sum(
        len(one.encode()) for table in read_records(root / "artifacts/datasets/data/clean") for one in table["content"]
    )
    folder = root / "artifacts/datasets/data"
    each = {path.name: size_of([path]) for path in sorted(folder.iterdir()) if path.is_dir()}
    both = size_of([root / "artifacts", root / "cache"])
    told = ", ".join(f"{name} {value / 1e6:.1f}" for name, value in each.items())
    return (
        f"source {size_of([root / 'raw']) / 1e6:.1f}, canonical text {clean / 1e6:.1f}, {told}; "
        f"with what is remembered {both / 1e6:.1f}: {both / clean:.2f} times the canonical text"
    )


def size_of(folders: list[Path]) -> int:
    """Bytes below folders, of two names for one file only the first."""
    stats = [file.stat() for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())


def confine(limit: float, cgroup: Path | None) -> None:
    """Let this process have no more megabytes."""
    if cgroup is None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e6),) * 2)
        return
    cgroup.mkdir(exist_ok=True)
    (name,) = (one for one in ("memory.max", "memory.limit_in_bytes") if (cgroup / one).exists())
    (cgroup / name).write_text(str(int(limit * 1e6)))
    (cgroup / "cgroup.procs").write_text(str(os.getpid()))


def real(megabytes: float, shard: float, limit: float, root: Path, cgroup: Path | None) -> None:
    """Print seconds and peak memory of each stage over real text, each a process of its own under a limit."""
    (root / "raw").mkdir(parents=True, exist_ok=True)
    if not any((root / "raw").iterdir()):
        make_real(root / "raw", megabytes)
    print(f"{size_of([root / 'raw']) / 1e6:.0f} MB of JSONL, limit {limit:g} MB")
    print("| stage | CPU s | wall s | MB/s of CPU | peak MB |\n|---|---|---|---|---|")
    for stage in ("ingest", "validate", "preprocess", "deduplicate", "split", "encode"):
        command = [sys.executable, __file__, "--stage", stage, "--root", str(root), "--shard", str(shard)]
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command += ["--limit", str(limit), "--bpe", *(["--cgroup", str(cgroup)] if cgroup else [])]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begun
        cpu = sum(after[:2]) - sum(before[:2])
        print(
            f"| {stage} | {cpu:.1f} | {wall:.1f} | {megabytes / cpu:.1f} | {float(told.split()[-1]):.0f} |", flush=True
        )
    print(f"disk, MB: {disk_of(root)}")


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
    parser.add_argument("--real", type=float, help="MB of real text: each stage under --limit instead")
    parser.add_argument("--limit", type=float, default=0, help="MB of data that a stage may hold")
    parser.add_argument("--cgroup", type=Path, help="memory cgroup to hold the limit, made if it is missing")
    parser.add_argument("--images", type=Path, help="folder of pictures: the cost of 1 % more of them instead")
    parser.add_argument("--bpe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        if options.limit:
            confine(options.limit, options.cgroup)
        execution = Execution(data_executor="serial", data_cache=0.5 if options.limit else 0)
        line = Line(options.root, options.shard, execution, "bpe" if options.bpe else "bytes", options.limit)
        line.stages()[options.stage]()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    elif options.real:
        if options.root:
            real(options.real, options.shard, options.limit, options.root, options.cgroup)
        else:
            with tempfile.TemporaryDirectory() as folder:
                real(options.real, options.shard, options.limit, Path(folder), options.cgroup)
    elif options.images:
        images(options.images)
    elif options.memory:
        memory(options.memory, options.shard)
    else:
        growth(options.megabytes, options.shard)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
