"""Near-copies among pictures: our descriptor and aligned verification against imagehash, and what each flags.

Run: python benchmarks/dedup_images.py CIFAR_DIR [rounds]   (CIFAR_DIR/{train,test}/<class>/*.jpg, or a .zip of it)
     python benchmarks/dedup_images.py twins CIFAR_DIR      (recall of each kind with k copies in the set, false pairs)

imagehash 4.3.2 (with PyWavelets) comes from the folder named in PEERS, behind the project's own packages. CPU seconds
of the process count; both sides take turns in one process, and medians of the rounds after the first are compared.
Thresholds come from synthetic copies of each set, never from labels.
"""

import hashlib
import io
import os
import statistics
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.append(os.environ.get("PEERS", ""))

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from genfoundry.config.specs import Vectors
from genfoundry.data.deduplicate import calibration
from genfoundry.data.similarity import descriptor, keepers
from genfoundry.data.similarity.keepers import Rule
from genfoundry.data.similarity.vectorjoin import Index, Verifier
from genfoundry.modalities import image
from genfoundry.modalities.image import cleaning, edits
from genfoundry.modalities.image import pixels as pixels_of

TIMED = 2000
"""Pictures hashed in a round."""

TWINS = (3, 5, 30, 100)
"""Copies of a kind among 1,000 pictures."""

LARGE = 60
"""JPEG files of 512 pixels decoded in a round."""


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def turns(rounds: int, ours: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """Median CPU seconds of each side."""
    taken = [(cpu(ours), cpu(theirs)) for _ in range(rounds + 1)][1:]
    return statistics.median(a for a, _ in taken), statistics.median(b for _, b in taken)


def cifar(source: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixels, whether of the test folder, class)."""
    folder = zipfile.Path(source) if source.suffix == ".zip" else source
    labels = [label for split in ("train", "test") for label in (folder / split).iterdir()]
    paths = sorted((path for label in labels for path in label.iterdir()), key=str)
    paths = [path for path in paths if path.name.endswith(".jpg")]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB")) for path in paths])
    parts = [str(path).split("/") for path in paths]
    return pixels, np.array([part[-3] == "test" for part in parts]), np.array([part[-2] for part in parts])


def drawings(number: int) -> np.ndarray:
    """Shapes of one colour each: uint8 (N, 32, 32, 3)."""
    generator, found = np.random.default_rng(5), []
    for _ in range(number):
        image = Image.new("RGB", (128, 128), tuple(generator.integers(0, 256, 3).tolist()))
        draw = ImageDraw.Draw(image)
        for _ in range(int(generator.integers(3, 9))):
            colour, (x, y) = tuple(generator.integers(0, 256, 3).tolist()), generator.integers(-20, 128, 2).tolist()
            wide, high = generator.integers(15, 90, 2).tolist()
            points = [tuple(point) for point in generator.integers(-10, 138, (4, 2)).tolist()]
            kind = int(generator.integers(3))
            if kind < 2:
                (draw.rectangle, draw.ellipse)[kind]((x, y, x + wide, y + high), fill=colour)
            else:
                draw.polygon(points, fill=colour)
        found.append(np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS)))
    return np.stack(found)


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return np.round(loaded.images * 255 / 16).astype(np.uint8)[..., None], loaded.target


def calibrated(pixels: np.ndarray) -> tuple[Rule, calibration.Synthetic]:
    """The rule as the stage calibrates it, and what it says of it."""
    names = [hashlib.sha256(one.tobytes()).hexdigest() for one in pixels]
    order = np.argsort(names)[: calibration.SYNTHETIC]
    contents = [pixels[row].tobytes() for row in order]
    sample = pd.DataFrame({"content": contents, "height": pixels.shape[1], "width": pixels.shape[2]}).assign(id="x")
    return calibration.calibrate(image, image.Dedup(), sample, len(pixels))


def speed(pixels: np.ndarray, rounds: int) -> None:
    import imagehash

    some = pixels[:TIMED]
    pictures = [Image.fromarray(one) for one in some]
    a, b = turns(rounds, lambda: descriptor.describe(some), lambda: [imagehash.phash(one) for one in pictures])
    print(
        f"hash step, {TIMED} arrays of 32 pixels: {TIMED / a:,.0f} against {TIMED / b:,.0f} a CPU-s, {b / a:.1f} times"
    )
    files = []
    for one in pixels[:LARGE]:
        buffer = io.BytesIO()
        Image.fromarray(one).resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    config = image.Preprocess(height=32, width=32)

    def ours() -> object:
        small = [np.asarray(cleaning._canonical(pixels_of.opened(content, 64), config)) for content in files]
        return descriptor.describe(np.stack(small))

    a, b = turns(rounds, ours, lambda: [imagehash.phash(Image.open(io.BytesIO(content))) for content in files])
    print(f"from 512-pixel JPEG: {LARGE / a:,.0f} against {LARGE / b:,.0f} a CPU-s, {b / a:.1f}x")


def search(prints: Vectors, rule: Rule, rounds: int) -> None:
    """All pairs of all pictures: candidates alone, then with verification."""
    rows = np.arange(len(prints.vectors))

    def candidates() -> int:
        index, found = Index(prints, *rule), 0
        for start in range(0, len(rows), 1024):
            part = rows[start : start + 1024]
            index.add(part)
            found += len(index._close(prints.vectors[part][:, index.order], index.held[: index.count])[0])
        return found

    found: list[int] = []
    taken = statistics.median(cpu(lambda: found.append(candidates())) for _ in range(rounds))
    whole = cpu(lambda: keepers.keep(prints, rule))
    print(f"{len(rows)} pictures: candidates {taken:.1f} CPU-s ({found[0]} pairs), verified and settled {whole:.1f}")


def twins(name: str, pixels: np.ndarray) -> None:
    """Recall of each kind where k of 1,000 pictures have a copy of each in the set; other pairs that the rule takes.

    A copy is found if it goes, or stays as the only one of its picture.
    """
    originals, kinds = pixels[:1000], edits.EDITS | edits.WEAK
    for k in TWINS:
        generator, rows, copies = np.random.default_rng(k), list[int](), list[np.ndarray]()
        for edit in kinds.values():
            chosen = generator.choice(1000, k, replace=False)
            rows, copies = [*rows, *chosen.tolist()], [*copies, *(edit(originals[row], generator) for row in chosen)]
        whole, owner = np.concatenate([originals, np.stack(copies)]), np.concatenate([np.arange(1000), rows])
        rule, said = calibrated(whole)
        kept = keepers.keep(descriptor.describe(whole), rule)
        stays = kept.keeper == np.arange(len(whole))
        alone = np.bincount(owner[stays], minlength=1000)[owner] == 1
        found = (~stays | alone)[1000:].reshape(len(kinds), k).mean(axis=1)
        wrong = int((owner[kept.pairs.first] != owner[kept.pairs.second]).sum())
        listed = ", ".join(f"{kind} {share:.2f}" for kind, share in zip(kinds, found, strict=True))
        false = f"{1e6 * wrong / (len(whole) * (len(whole) - 1) / 2):.2f} false pairs a million"
        print(f"{name}, {k} of 1,000: {rule}, strict {said.crowded}; {listed}; {false}", flush=True)


def leaks(pixels: np.ndarray, test: np.ndarray, label: np.ndarray, prints: Vectors, rule: Rule) -> None:
    """Test pictures with a flagged training twin."""
    index = Index(prints, *rule)
    index.add(np.flatnonzero(~test))
    found = index.similar(np.flatnonzero(test))
    flagged = np.unique(found.first)
    across = int((label[found.first] != label[found.second]).sum())
    print(f"CIFAR-10: {rule}; {len(flagged)} test pictures flagged, {len(found.first)} pairs, {across} across classes")


def recall(name: str, pixels: np.ndarray, rule: Rule) -> None:
    """Share of new synthetic copies found, by edit."""
    generator = np.random.default_rng(7)
    chosen = pixels[generator.choice(len(pixels), 500, replace=False)]
    row, parts, benign = np.arange(len(chosen)), list[str](), 0.0
    for kind, edit in (edits.EDITS | edits.WEAK).items():
        copies = np.stack([edit(one, generator) for one in chosen])
        prints = descriptor.describe(np.concatenate([chosen, copies]))
        score = Verifier(prints, rule.floor, rule.mirror).score(row, row + len(row), rule.threshold)
        parts.append(f"{kind} {(score >= rule.threshold).mean():.3f}")
        benign += (score >= rule.threshold).mean() / edits.BENIGN if len(parts) <= edits.BENIGN else 0
    print(f"{name}, recall of 500 copies each: {', '.join(parts)}; benign {benign:.4f}")


def main() -> None:
    if sys.argv[1] == "twins":
        pixels, test, _ = cifar(Path(sys.argv[2]))
        twins("CIFAR-10", pixels[~test][np.random.default_rng(0).choice((~test).sum(), 1000, replace=False)])
        twins("drawings", drawings(1000))
        return
    pixels, test, label = cifar(Path(sys.argv[1]))
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    if os.environ.get("PEERS"):
        speed(pixels, rounds)
    prints, (rule, _) = descriptor.describe(pixels), calibrated(pixels)
    leaks(pixels, test, label, prints, rule)
    recall("CIFAR-10", pixels, rule)
    search(prints, rule, rounds)
    small, target = digits()
    rule, _ = calibrated(small)
    kept = keepers.keep(descriptor.describe(small), rule)
    gone = np.flatnonzero(kept.keeper != np.arange(len(small)))
    wrong = int((target[gone] != target[kept.keeper[gone]]).sum())
    print(f"digits: {rule}; {len(gone)} of {len(small)} removed, {wrong} across classes")
    recall("digits", small, rule)


if __name__ == "__main__":
    main()
