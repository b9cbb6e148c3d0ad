"""Verification of pictures on their pixels: the same shot in another guise, and look-alikes that must stay apart."""

import io
import string

import numpy as np
import pytest
from dataline import smooth
from PIL import Image, ImageDraw, ImageFont

from genfoundry.config.specs import Vectors
from genfoundry.data.deduplicate import calibration
from genfoundry.data.similarity import alignment, descriptor
from genfoundry.data.similarity.keepers import Rule, keep
from genfoundry.data.similarity.vectorjoin import Index, Verifier
from genfoundry.data.split.leakcheck import nearest
from genfoundry.modalities.image import edits


def scene(seed: int, side: int = 32) -> np.ndarray:
    """A picture with large and small parts, as photographs have: uint8 (side, side, 3)."""
    generator = np.random.default_rng(seed)
    total = np.zeros((side, side, 3))
    for cells, weight in ((4, 1.0), (9, 0.6), (17, 0.35)):
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        total += weight * np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return (total / 1.95).astype(np.uint8)


def scores(pairs: list[tuple[np.ndarray, np.ndarray]], mirror: bool = True) -> np.ndarray:
    number = np.arange(len(pairs))
    prints = descriptor.describe(np.stack([first for first, _ in pairs] + [second for _, second in pairs]))
    return Verifier(prints, -1.0, mirror).score(number, number + len(pairs))


@pytest.mark.parametrize("kind", list(edits.EDITS))
def test_a_copy_scores_high_and_another_picture_low(kind: str) -> None:
    generator = np.random.default_rng(1)
    originals = [scene(seed) for seed in range(20)]

    copies = scores([(one, edits.EDITS[kind](one, generator)) for one in originals])
    others = scores([(one, edits.EDITS[kind](scene(100 + n), generator)) for n, one in enumerate(originals)])

    assert copies.min() > 0.85 and others.max() < 0.7


def test_a_shift_is_found_exactly() -> None:
    wide = scene(3, 38)
    first, second = wide[1:33, 2:34], wide[3:35, 3:35]

    shift = alignment.shifts(
        alignment.edges(np.stack([first, second])), np.array([0]), np.array([1]), np.array([False])
    )[0]

    # What stands at (0, 0) of the second stands two rows further down and one to the right in the first.
    assert shift[1:3].tolist() == [2, 1] and shift[0] > 0.95


def test_scale_is_undone_where_shifts_alone_fail() -> None:
    one = scene(4)
    zoomed = edits._boxed(one, 0.06, 0.06, 0.94, 0.94)
    prints = np.stack([one, zoomed])

    laid, structure = alignment.overlaid(one, zoomed, False)
    shift = alignment.shifts(alignment.edges(prints), np.array([0]), np.array([1]), np.array([False]))[0]

    seen = ~np.isnan(laid)
    before = np.abs(one.astype(float) - zoomed).mean()
    assert structure > 0.95 > shift[0] and np.abs(laid - zoomed)[seen].mean() < before / 3


def test_a_mirror_counts_only_where_asked() -> None:
    pair = (scene(5), np.ascontiguousarray(scene(5)[:, ::-1]))

    assert scores([pair])[0] == pytest.approx(1, abs=1e-3)
    assert scores([pair], mirror=False)[0] < 0.7


def test_the_vector_of_a_mirrored_picture_is_known_without_it() -> None:
    one = scene(6)
    vectors = descriptor.describe(np.stack([one, one[:, ::-1]])).vectors

    np.testing.assert_allclose(vectors[1], vectors[0] * descriptor.MIRROR, atol=1e-6)


def test_other_hues_score_lower_than_other_light() -> None:
    one = scene(7)
    dimmed, swapped = (one * 0.7).astype(np.uint8), np.ascontiguousarray(one[..., [2, 0, 1]])

    light, hue = scores([(one, dimmed), (one, swapped)])

    assert light > 0.97 and hue < light - 0.02


def test_a_shared_frame_makes_no_copy() -> None:
    framed = [np.pad(scene(seed)[3:29, 3:29], ((3, 3), (3, 3), (0, 0)), constant_values=255) for seed in range(12)]
    prints = descriptor.describe(np.stack(framed))

    assert (keep(prints, Rule(0.85, 0.65, True)).keeper == np.arange(12)).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "LEAST_LOCAL", -1.0)
        assert (keep(prints, Rule(0.85, 0.65, True)).keeper != np.arange(12)).any()


def framed(seed: int, wide: int) -> np.ndarray:
    """A scene in the frame that all share."""
    levels = np.full((32, 32, 3), 235, np.uint8)
    levels[2:-2, 2:-2], levels[4:-4, 4:-4] = (40, 20, 90), 200
    levels[wide:-wide, wide:-wide] = scene(seed, 32 - 2 * wide)
    return levels


@pytest.mark.parametrize("wide", [6, 8])
def test_a_thick_frame_makes_no_copy_and_hides_none(wide: int) -> None:
    pictures = [framed(seed, wide) for seed in range(16)]
    first, second = np.triu_indices(16, 1)

    others = scores([(pictures[a], pictures[b]) for a, b in zip(first, second, strict=True)])
    copies = scores([(one, edits.jpeg(one, np.random.default_rng(0))) for one in pictures])

    assert (others > 0.85).mean() < 0.02 and (copies > 0.85).all()


def letter(text: str, quality: int = 0) -> np.ndarray:
    """A letter on white, 64 pixels wide and then 32, saved as JPEG in between if asked."""
    image, buffer = Image.new("RGB", (64, 64), "white"), io.BytesIO()
    ImageDraw.Draw(image).text((24, 24), text, "black", ImageFont.load_default(14))
    if quality:
        image.save(buffer, "JPEG", quality=quality)
        image = Image.open(buffer)
    return np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS))


def test_small_signs_on_an_equal_ground_are_told_apart() -> None:
    signs = string.ascii_letters + string.digits
    first, second = np.triu_indices(len(signs), 1)
    pictures = [letter(sign) for sign in signs]

    others = scores([(pictures[a], pictures[b]) for a, b in zip(first, second, strict=True)])
    copies = scores([(letter(sign), letter(sign, 70)) for sign in signs])

    assert others.max() < alignment.LEAST_PLAIN <= copies.min()


def sky(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    down, (top, foot) = np.linspace(0, 1, 32)[:, None, None], generator.uniform(80, 255, (2, 3))
    noise = generator.normal(0, 1, (32, 32, 3))
    return np.clip(top * (1 - down) + foot * down + noise, 0, 255).astype(np.uint8)


def test_what_cant_be_verified_is_no_copy() -> None:
    skies = [sky(seed) for seed in range(20)]

    assert scores([(a, b) for a in skies for b in skies if a is not b]).max() == -1
    assert (keep(descriptor.describe(np.stack(skies)), Rule(-1.0, 0.65, True)).keeper == np.arange(20)).all()


def test_another_scale_is_no_reason_to_doubt_a_copy() -> None:
    """Edges meet nowhere after a mere shift; once aligned, the worst blocks agree."""
    generator = np.random.default_rng(9)
    pairs = [(scene(n), edits._saved(edits._boxed(scene(n), 0.05, 0.05, 0.95, 0.95))) for n in range(12)]
    pairs += [(scene(n), edits.reworked(scene(n), generator)) for n in range(12)]

    assert scores(pairs).min() > 0.9


def test_the_order_of_two_pictures_says_nothing() -> None:
    generator = np.random.default_rng(2)
    pairs = [(scene(n), edits.mirrored(scene(n), generator)) for n in range(10)]
    pairs += [(scene(n), edits.cropped(scene(n + 1), generator)) for n in range(10)]

    np.testing.assert_allclose(scores(pairs), scores([(b, a) for a, b in pairs]), atol=2e-6)


def test_search_finds_what_looking_at_every_pair_finds() -> None:
    generator = np.random.default_rng(3)
    pictures = [scene(n) for n in range(30)]
    pictures += [edit(pictures[n], generator) for n, edit in enumerate(edits.EDITS.values())]
    prints = descriptor.describe(np.stack(pictures))
    rows, rule = np.arange(len(pictures)), Rule(0.8, 0.6, True)
    first, second = (side.ravel() for side in np.meshgrid(rows, rows, indexing="ij"))

    index = Index(prints, *rule)
    index.add(rows)
    found = index.similar(rows)
    every = Verifier(prints, rule.floor, True).score(first, second)

    wanted = {(a, b) for a, b, score in zip(first, second, every, strict=True) if score >= 0.8 and a != b}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    assert len(wanted) >= 2 * 10
    leaks = nearest(prints, rows[30:], rows[:30], rule, 1.0)
    assert {(int(a), int(b)) for a, b in zip(rows[30:], leaks.row, strict=True)} >= {
        (a, b) for a, b in wanted if a >= 30 > b
    }


def test_a_picture_without_contrast_has_no_copies() -> None:
    flat = np.full((32, 32, 3), 90, np.uint8)
    prints = descriptor.describe(np.stack([flat, flat, smooth(np.random.default_rng(0))]))

    assert not prints.vectors[:2].any()
    assert (keep(prints, Rule(0.8, 0.6, True)).keeper == np.arange(3)).all()


def test_small_pictures_are_made_alike_on_every_machine() -> None:
    halves = np.zeros((1, 64, 64, 1), np.uint8)
    halves[:, ::2] = 1  # each small pixel is the mean of two zeros and two ones: a half goes up

    assert (descriptor.describe(halves).details == 1).all()


def test_vectors_without_pictures_are_alike_by_their_cosine() -> None:
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    prints = Vectors(vectors, np.empty((3, 0, 0, 0), np.uint8))

    kept = keep(prints, Rule(0.7, 0.7))

    assert kept.keeper.tolist() == [0, 0, 2] and kept.score[1] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("quantile", "limit"), [(0.8668, 0.86), (0.7018, 0.7), (0.9821, 0.982), (0.86, 0.86), (1.0, 1.0), (-0.3, -0.3)]
)
def test_a_calibrated_limit_is_rounded_down_so_that_a_little_more_data_leaves_it(quantile: float, limit: float) -> None:
    assert calibration._quantile(np.array([quantile] * 3), 0.0) == limit
    assert calibration._quantile(np.array([quantile] * 3), 0.8123) == 0.8123
