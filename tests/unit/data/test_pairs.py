"""Verdicts on pairs of pictures that are remembered: the ones that would be reached, and new pairs alone verified."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataline import Line, save
from test_alignment import scene

from genfoundry.config.sections.execution import Execution
from genfoundry.config.specs import Vectors
from genfoundry.core.io import folder_digest
from genfoundry.data.deduplicate import removal as dedup
from genfoundry.data.shards.memo import Memo
from genfoundry.data.similarity import descriptor, vectorjoin
from genfoundry.data.similarity.keepers import Rule, keep
from genfoundry.data.similarity.pairs import Verdicts, digests, verdicts_of
from genfoundry.data.similarity.setjoin import EXACT
from genfoundry.data.similarity.vectorjoin import Verifier
from genfoundry.data.split import leaks
from genfoundry.modalities.image import edits

REMEMBER, FORGET = Execution(data_executor="serial", data_cache=1), Execution(data_executor="serial", data_cache=0)


def pictures(count: int) -> list[np.ndarray]:
    """Scenes, every kind of edit of the first ones, and pictures that are half alike: neither copies nor strangers."""
    generator = np.random.default_rng(11)
    originals = [scene(seed) for seed in range(count)]
    edited = [edit(one, generator) for one, edit in zip(originals, edits.EDITS.values(), strict=False)]
    shares = np.linspace(0.3, 0.9, 12)
    return originals + edited + [(s * scene(500) + (1 - s) * scene(501)).astype(np.uint8) for s in shares]


def scored(prints: Vectors, floor: float, mirror: bool, least: float, verdicts: Verdicts | None) -> np.ndarray:
    rows = np.arange(len(prints.vectors))
    first, second = (side.ravel() for side in np.meshgrid(rows, rows, indexing="ij"))
    return Verifier(prints, floor, mirror, verdicts).score(first, second, least)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("then", "now"), [(0.9, 0.9), (0.99, 0.6), (0.6, 0.9), (0.99, -1.0), (-1.0, 0.75)])
def test_a_remembered_verdict_is_the_one_that_would_be_reached(
    tmp_path: Path, mirror: bool, then: float, now: float
) -> None:
    memo, prints = Memo(tmp_path / "memo", 1e9, "code"), descriptor.describe(np.stack(pictures(24)))
    few = Vectors(prints.vectors[::2], prints.details[::2])
    with verdicts_of(memo, "a", tmp_path / "work") as before:
        scored(few, 0.0, mirror, then, before)
    with verdicts_of(memo, "a", tmp_path / "work") as after:
        warm = scored(prints, -0.2, mirror, now, after)

    np.testing.assert_array_equal(warm, scored(prints, -0.2, mirror, now, None))
    assert before.new > 0 and after.new > 0
    with verdicts_of(memo, "a", tmp_path / "work") as again:
        np.testing.assert_array_equal(scored(prints, -0.2, mirror, now, again), warm)
    assert again.new == 0
    with verdicts_of(memo._replace(basis="other code"), "a", tmp_path / "work") as other:
        scored(few, 0.0, mirror, then, other)
    assert other.new == before.new


def test_pairs_that_are_met_no_more_are_forgotten_and_a_damaged_file_is_no_memory(tmp_path: Path) -> None:
    memo, prints = Memo(tmp_path / "memo", 1e9, "code"), descriptor.describe(np.stack(pictures(12)))
    few = Vectors(prints.vectors[:6], prints.details[:6])
    for rows in (prints, few):
        with verdicts_of(memo, "a", tmp_path / "work") as verdicts:
            scored(rows, -1.0, True, 0.8, verdicts)
    (kept,) = memo.folder.glob("*/key.npy")
    assert verdicts.new == 0 and len(np.load(kept)) == 2 * 6 * 6  # plain and mirrored

    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes()[:-8])
    with verdicts_of(memo, "a", tmp_path / "work") as verdicts:
        scored(few, -1.0, True, 0.8, verdicts)
    assert verdicts.new == 2 * 6 * 6
    assert not (tmp_path / "work").exists()


def test_fingerprints_that_the_caller_has_hashed_are_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, prints, rule = (
        Memo(tmp_path / "memo", 1e9, "code"),
        descriptor.describe(np.stack(pictures(12))),
        Rule(0.9, 0.0),
    )
    marks, order = digests(prints), np.random.default_rng(2).permutation(len(prints.vectors))[:20]
    with verdicts_of(memo, "a", tmp_path / "work") as verdicts:
        plain = keep(prints, rule, order, EXACT, verdicts)

    monkeypatch.setattr(vectorjoin, "digests", lambda vectors: pytest.fail("hashed again"))
    with verdicts_of(memo, "a", tmp_path / "work") as verdicts:
        marked = keep(prints, rule, order, EXACT, verdicts, marks)

    assert verdicts.new == 0 and len(plain.pairs.first) > 0
    np.testing.assert_array_equal(marked.keeper, plain.keeper)
    np.testing.assert_array_equal(marked.pairs.score, plain.pairs.score)


def test_a_picture_more_costs_its_own_pairs_and_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_alike(seed: int) -> None:
        mixed = 0.65 * scene(1000) + 0.35 * scene(seed)
        save(tmp_path / f"raw/{seed:03d}.png", mixed.astype(np.uint8))

    # Pictures alike enough to be verified; synthetic copies are verified without memory, which is not counted.
    for seed in range(40):
        save_alike(seed)
    sections = {"dedup": {"threshold": 0.97, "floor": 0.65}, "split": {"val": 0.2, "test": 0.2}}
    line = Line(tmp_path / "line", "image", tmp_path / "raw", **sections)
    verified: list[int] = []
    aligned = Verifier._aligned

    def watched(self: Verifier, first: np.ndarray, *rest: Any) -> Any:
        if self.verdicts is not None:
            verified.append(len(first))
        return aligned(self, first, *rest)

    monkeypatch.setattr(Verifier, "_aligned", watched)

    def stages(execution: Execution) -> tuple[int, list[str]]:
        verified.clear()
        line.ingest().preprocess()
        dedup.drop_copies(line.modality, line.sections["dedup"], line.paths, execution)
        split = (line.sections[name] for name in ("split", "dedup", "preprocess"))
        leaks.guard_splits(line.modality, *split, line.paths, execution=execution)
        folders = line.paths.unique, line.paths.copies, line.paths.splits
        return sum(verified), [folder_digest(folder) for folder in folders]

    cold, first = stages(REMEMBER)
    assert stages(REMEMBER) == (0, first)
    save_alike(40)
    warm, second = stages(REMEMBER)

    assert stages(FORGET) == (0, second) and second != first  # nothing kept, nothing counted
    assert cold > 200 and 0 < warm < cold / 5
