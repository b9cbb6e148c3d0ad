"""Near-copies among texts: our exact join against gaoya, rensa, datasketch and datatrove, and how it grows.

Run: python benchmarks/dedup_text.py SHAKESPEARE.txt [rounds], or: python benchmarks/dedup_text.py grow MB [memory MB]

Peers (gaoya 0.2.2, rensa 0.5.0, datasketch 2.0.0, datatrove 0.10.1 with spaCy and xxhash < 4) come from the folder
named in PEERS, behind the project's own packages. CPU seconds of the process, all threads, count; all sides take turns
in one process, so that a busy machine slows all of them, and medians of the rounds after the first are compared.

``own`` is text in, rows that stay out, each side with its own words (datasketch has none and gets the 5-grams a user
would write in Python). Ours verifies every pair exactly; gaoya and rensa estimate, datasketch does not look, and
datatrove is timed for its signatures alone. ``same`` starts from the same 5-grams, hashed before the clock starts.
"""

import ast
import gc
import os
import random
import re
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.append(os.environ.get("PEERS", ""))

import numpy as np
import pyarrow as pa
from genfoundry.data.similarity.shelf import Shelf

from genfoundry.data.similarity import keepers
from genfoundry.data.similarity.keepers import Rule
from genfoundry.modalities.common import shingles

MEGABYTES = 4
"""Text of each corpus, synthetic copies included (Tiny Shakespeare: 1.1 MB in passages, each with three copies)."""

SLOW = 12
"""datasketch and gaoya's same get every SLOW-th row, datatrove every SLOW * 4-th."""

PERMUTATIONS = 128
ALL_SIDES = 0.8
"""Threshold at which the slow ones and those of one stage alone compete too: theirs hardly changes with it."""

ALWAYS = ("own: ours", "own: gaoya", "own: rensa", "same: ours", "same: rensa")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
WORD = re.compile(r"\w+")


def edited(text: str, rate: float, generator: random.Random) -> str:
    """Words replaced, dropped or doubled at a rate."""
    pieces = text.split(" ")
    for place in range(len(pieces)):
        if generator.random() < rate:
            pieces[place] = generator.choice(["changed", "", f"{pieces[place]} {pieces[place]}"])
    return " ".join(pieces)


def with_copies(texts: list[str], copies: int, share: float) -> list[str]:
    """The texts, and edits of a share of them at rates from 0.2 % to 10 %."""
    generator = random.Random(1)
    chosen = [text for text in texts if generator.random() < share]
    more = [
        edited(text, generator.choice([0.002, 0.005, 0.01, 0.02, 0.05, 0.1]), generator)
        for text in chosen
        for _ in range(copies)
    ]
    both = [*texts, *more]
    generator.shuffle(both)
    return both


def corpora(shakespeare: Path) -> dict[str, list[str]]:
    """Docstrings and source files of the installed packages, and passages of a play."""
    paths = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))
    random.Random(0).shuffle(paths)
    docs: list[str] = []
    files: list[str] = []
    taken = [0, 0]
    for path in paths:
        source = path.read_text("utf-8", errors="ignore")
        if len(source) > 400 and taken[1] < MEGABYTES * 0.8e6:
            files.append(source[:40_000])
            taken[1] += len(files[-1])
        if taken[0] >= MEGABYTES * 0.8e6:
            continue
        try:
            nodes = list(ast.walk(ast.parse(source)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
        docs += [text for text in found if len(text) > 100]
        taken[0] += sum(len(text) for text in found if len(text) > 100)
    play = shakespeare.read_text("utf-8")
    passages = [play[start : start + 1_500] for start in range(0, len(play), 1_500)]
    return {
        "docstrings": with_copies(docs, 1, 0.25),
        "source code": with_copies(files, 1, 0.25),
        "Shakespeare": with_copies(passages, 3, 1.0),
    }


def python_grams(text: str) -> set[str]:
    """What users of a MinHash library write."""
    words = WORD.findall(text.lower())
    return {" ".join(words[place : place + 5]) for place in range(len(words) - 4)}


class Arena:
    """One corpus at one threshold: each contender by name, and the megabytes it works on."""

    def __init__(self, texts: list[str], threshold: float) -> None:
        self.texts, self.threshold = texts, threshold
        self.column = pa.array(texts, pa.large_string())
        self.sets = shingles.sets(self.column)
        self.bands, self.width = (16, 8) if threshold >= 0.7 else (32, 4)
        self.few, self.fewest = range(0, len(texts), SLOW), range(0, len(texts), 4 * SLOW)
        self.all = range(len(texts))
        self.grams = [[str(value) for value in self.hashes(row).tolist()] for row in self.few]

    def hashes(self, row: int) -> np.ndarray:
        return self.sets.hashes[self.sets.ptr[row] : self.sets.ptr[row + 1]]

    def megabytes(self, rows: range) -> float:
        return sum(len(self.texts[row].encode()) for row in rows) / 1e6

    def contenders(self) -> dict[str, tuple[Callable[[], object], float]]:
        sides: dict[str, tuple[Callable[[], object], range]] = {
            "own: ours": (lambda: keepers.keep(shingles.sets(self.column), Rule(self.threshold)), self.all),
            "own: gaoya": (lambda: self.gaoya(self.texts, "word"), self.all),
            "own: rensa, 5-grams": (
                lambda: self.rensa((list(python_grams(text)) for text in self.texts), len(self.texts)), self.all
            ),
            "own: rensa, README as printed (single words)": (
                lambda: self.rensa((text.split() for text in self.texts), len(self.texts)), self.all
            ),
            "own: datasketch": (
                lambda: self.datasketch([python_grams(self.texts[row]) for row in self.few], None), self.few
            ),
            "own: datatrove, signatures": (self.datatrove, self.fewest),
            "same: ours": (lambda: keepers.keep(self.sets, Rule(self.threshold)), self.all),
            "same: rensa": (self.rensa_hashes, self.all),
            "same: gaoya": (lambda: self.gaoya(self.grams, list), self.few),
            "same: datasketch": (
                lambda: self.datasketch([self.hashes(row) >> np.uint64(32) for row in self.few], int), self.few
            ),
            "same: datatrove, signatures": (self.datatrove_hashes, self.fewest),
        }  # fmt: skip
        return {
            name: (work, self.megabytes(rows))
            for name, (work, rows) in sides.items()
            if self.threshold == ALL_SIDES or name.startswith(ALWAYS)
        }

    def gaoya(self, documents: list, analyzer: object) -> list:
        import gaoya

        index = gaoya.minhash.MinHashStringIndex(
            32, self.threshold, self.bands, self.width, None, analyzer, True, (5, 5), "vec"
        )
        for number, document in enumerate(documents):
            index.insert_document(number, document)
        return [index.query(document) for document in documents]

    def rensa(self, tokens: object, number: int) -> list[bool]:
        import rensa

        kept = rensa.RMinHashDeduplicator(threshold=self.threshold, num_perm=PERMUTATIONS, use_lsh=True)
        return kept.add_pairs((str(row), found) for row, found in zip(range(number), tokens, strict=True))

    def rensa_hashes(self) -> object:
        import rensa

        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            self.sets.hashes, self.sets.ptr.astype(np.uint64), PERMUTATIONS, 42
        )
        index = rensa.RMinHashLSH(self.threshold, PERMUTATIONS, self.bands)
        return index.insert_matrix_and_query_duplicate_flags(matrix)

    def datasketch(self, documents: list, hashed: type | None) -> list:
        from datasketch import MinHash, MinHashLSH

        index = MinHashLSH(threshold=self.threshold, num_perm=PERMUTATIONS, params=(self.bands, self.width))
        signatures = []
        for number, document in enumerate(documents):
            signature = MinHash(PERMUTATIONS, hashfunc=int) if hashed else MinHash(PERMUTATIONS)
            signature.update_batch(document if hashed else [gram.encode() for gram in document])
            index.insert(number, signature, check_duplication=False)
            signatures.append(signature)
        return [index.query(signature) for signature in signatures]

    def datatrove(self) -> list:
        step = _datatrove()
        found = (step.get_shingles(self.texts[row]) for row in self.fewest)
        return [step.get_signature(grams) for grams in found if grams.size]

    def datatrove_hashes(self) -> list:
        step = _datatrove()
        found = (self.hashes(row).reshape(-1, 1) for row in self.fewest)
        return [step.get_signature(grams) for grams in found if grams.size]


_STEP: list = []


def _datatrove() -> object:
    if not _STEP:
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
        from datatrove.utils.hashing import HashConfig

        config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="xxhash"))
        _STEP.append(MinhashDedupSignature(tempfile.mkdtemp(), config))
    return _STEP[0]


def contest(texts: list[str], threshold: float, rounds: int) -> dict[str, float]:
    """Megabytes a CPU second of each side."""
    sides = Arena(texts, threshold).contenders()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, (work, _) in sides.items():
            gc.collect()
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return {name: sides[name][1] / statistics.median(taken[1:]) for name, taken in seconds.items()}


def compare(shakespeare: Path, rounds: int) -> None:
    table: dict[tuple[str, float], dict[str, float]] = {}
    for corpus, texts in corpora(shakespeare).items():
        size = sum(len(text.encode()) for text in texts) / 1e6
        print(f"\n{corpus}: {len(texts):,} rows, {size:.1f} MB", flush=True)
        for threshold in THRESHOLDS:
            speeds = table[corpus, threshold] = contest(texts, threshold, rounds)
            kept = keepers.keep(shingles.sets(texts), Rule(threshold))
            gone = int((kept.keeper != np.arange(len(texts))).sum())
            print(f"| {corpus} | {threshold} | {gone:,} go |", end="")
            print(" | ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()), flush=True)
    print("\n| ours is x times | " + " | ".join(f"{corpus} {threshold}" for corpus, threshold in table) + " |")
    for name in max(table.values(), key=len):
        ours = "own: ours" if name.startswith("own") else "same: ours"
        cells = (
            f"{speeds[name]:.0f} MB/s"
            if name == ours
            else f"{speeds[ours] / speeds[name]:.1f}"
            if name in speeds
            else ""
            for speeds in table.values()
        )
        print(f"| {name} | " + " | ".join(cells) + " |")


def grow(megabytes: int, memory: float) -> None:
    """One size: CPU seconds and memory, text made as it goes: a base of source code with one byte in 20 changed, or
    (a tenth of the rows) one in 2,000, so that copies across shards are found.
    """
    base = [text for text in corpora(Path(__file__))["source code"] if len(text) > 500]
    column = pa.array([part for text in base for part in (text[i : i + 5_000] for i in range(0, len(text), 5_000))])
    letters = np.frombuffer("".join(column.to_pylist()).encode("ascii", "replace"), np.uint8)
    rows = np.concatenate([[0], np.cumsum([len(text) for text in column.to_pylist()])]).astype(np.int64)
    generator = np.random.Generator(np.random.PCG64(0))
    shelf = Shelf(int(memory * 1e6 / 2), Path(tempfile.gettempdir()))
    shingles.sets(["compile the kernels before the clock starts, please"])
    keepers.keep(shingles.sets(["a b c d e f g"] * 3), Rule(0.8))
    Path("/proc/self/clear_refs").write_text("5")
    before, spent, made = _resident("VmRSS"), [0.0, 0.0], 0
    number = 0
    while made < megabytes * 1e6:
        text = letters.copy()
        heavy = np.repeat(generator.random(len(rows) - 1) < 0.9, np.diff(rows))
        chance = generator.random(len(text), np.float32)
        change = (chance < 0.0005) | (heavy & (chance < 0.05))
        text[change & (text > 96)] = generator.integers(97, 123, int((change & (text > 96)).sum()), np.uint8)
        shard = pa.LargeStringArray.from_buffers(len(rows) - 1, pa.py_buffer(rows), pa.py_buffer(text))
        del chance, change, heavy
        start = time.process_time()
        sets = shingles.sets(shard)
        shelf.add(sets.hashes, np.diff(sets.ptr))
        spent[0] += time.process_time() - start
        made += len(text)
        number += 1
    start = time.process_time()
    kept = keepers.keep(shelf, Rule(0.8))
    spent[1] = time.process_time() - start
    gone = int((kept.keeper != np.arange(len(shelf))).sum())
    peak = _resident("VmHWM") - before
    size = made / 1e6
    print(
        f"| {size:,.0f} | {len(shelf):,} | {gone:,} | {spent[0]:.2f} | {spent[1]:.2f} | {size / sum(spent):.0f} | "
        f"{peak:.0f} | {peak / size:.2f} | {'disk' if shelf.on_disk else 'memory'} |"
    )


def _resident(field: str) -> float:
    """Megabytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    if sys.argv[1] == "grow":
        grow(int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
    else:
        compare(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
