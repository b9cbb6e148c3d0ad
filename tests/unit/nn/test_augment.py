"""Augmentation: exact moves by hand, each image by its own draws, gradient through all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from genfoundry.config.sections.augment import Augment
from genfoundry.core.errors import ConfigError
from genfoundry.nn.augment import AUGMENT_DRAWS, augment

EVERYTHING = {"flip": True, "translate": 0.3, "crop": 0.6, "cutout": 0.4}
FLIP, MOVED, SHIFT_Y, SHIFT_X, SHRINK, ZOOM, TOP, LEFT, CUT, MIDDLE_Y, MIDDLE_X = range(AUGMENT_DRAWS)
NEVER, ALWAYS = 0.999, 0.0


def draws(count: int, seed: int = 0) -> Tensor:
    return torch.rand((count, AUGMENT_DRAWS), generator=torch.Generator().manual_seed(seed))


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1


def one(drawn: dict[int, float]) -> Tensor:
    """Draws of one image: nothing happens but what is named."""
    row = torch.full((1, AUGMENT_DRAWS), NEVER)
    for place, value in drawn.items():
        row[0, place] = value
    return row


@pytest.mark.parametrize("settings", [Augment(), Augment(p=0, **EVERYTHING)])
def test_settings_that_change_nothing_return_the_grid_itself(settings: Augment) -> None:
    for grid in (images(3, 2, 8, 6), images(3, 1, 16)):
        assert augment(grid, settings, draws(3)) is grid


def test_an_image_for_which_nothing_was_drawn_keeps_its_bytes() -> None:
    grid = images(1, 3, 7, 8)

    assert torch.equal(augment(grid, Augment(p=0.5, **EVERYTHING), one({})), grid)


def test_a_flip_mirrors_left_and_right() -> None:
    grid = images(1, 2, 3, 5)

    assert torch.equal(augment(grid, Augment(flip=True), one({FLIP: 0.49})), grid.flip(3))
    assert torch.equal(augment(grid, Augment(flip=True), one({FLIP: 0.51})), grid)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 4.0)])
def test_a_translation_moves_whole_pixels_and_leaves_the_darkest_value(low: float, high: float) -> None:
    grid = torch.tensor([[[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]]])
    # Farthest shift 0.5: two rows, one column. The draws choose of -2..2 and of -1..1.
    down_left = one({MOVED: ALWAYS, SHIFT_Y: 0.7, SHIFT_X: 0.2})

    moved = augment(grid, Augment(translate=0.5), down_left, low, high)

    assert moved.tolist() == [[[[low, low], [2.0, low], [4.0, low], [6.0, low]]]]


def test_translations_of_all_directions_are_equally_likely() -> None:
    """A single bright pixel in the middle spends equal time at each of 3 x 3 places."""
    grid = torch.zeros(9, 1, 5, 5)
    grid[:, :, 2, 2] = 1.0
    steps = torch.tensor([(row, column) for row in (0.1, 0.5, 0.9) for column in (0.1, 0.5, 0.9)])
    rows = torch.full((9, AUGMENT_DRAWS), NEVER)
    rows[:, MOVED], rows[:, SHIFT_Y], rows[:, SHIFT_X] = ALWAYS, steps[:, 0], steps[:, 1]

    mean = augment(grid, Augment(translate=0.2), rows, 0.0, 1.0).sum(0)[0]

    assert torch.equal(mean, torch.nn.functional.pad(torch.ones(3, 3), (1, 1, 1, 1)))


def test_a_crop_is_resized_back_bilinearly() -> None:
    grid = images(1, 2, 8, 6)
    # Half of each side, its corner at 0.5 * (1 - 0.5) of the height: rows 2 to 5, columns 0 to 2.
    rows = one({SHRINK: ALWAYS, ZOOM: 0.9999999, TOP: 0.5, LEFT: 0.0})

    cropped = augment(grid, Augment(crop=0.5), rows)

    expected = torch.nn.functional.interpolate(grid[:, :, :, :3], size=(16, 6), mode="bilinear")[:, :, 4:12]
    torch.testing.assert_close(cropped[:, :, :, :-1], expected[:, :, :, :-1], rtol=1e-5, atol=1e-5)


def test_a_cutout_takes_the_middle_of_the_range_and_stops_at_the_border() -> None:
    grid = torch.ones(1, 1, 4, 4)

    holed = augment(grid, Augment(cutout=0.5), one({CUT: ALWAYS, MIDDLE_Y: 0.5, MIDDLE_X: 0.0}), 0.0, 1.0)

    assert holed[0, 0].tolist() == [[1, 1, 1, 1], [0.5, 1, 1, 1], [0.5, 1, 1, 1], [1, 1, 1, 1]]


def test_an_image_s_changes_do_not_depend_on_its_company() -> None:
    grid, rows, settings = images(6, 3, 8, 6), draws(6), Augment(p=0.7, **EVERYTHING)
    whole = augment(grid, settings, rows)

    parts = [augment(grid[place : place + 1], settings, rows[place : place + 1]) for place in range(6)]

    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.equal(whole[0], whole[1])


def test_gradient_flows_to_every_visible_pixel() -> None:
    grid, settings = images(4, 1, 5, 4, dtype=torch.float64).requires_grad_(), Augment(p=0.8, **EVERYTHING)

    assert torch.autograd.gradcheck(lambda values: augment(values, settings, draws(4)), grid)


@pytest.mark.parametrize("p", [0.3, 1.0])
@pytest.mark.parametrize("change", [{"flip": True}, {"translate": 0.5}, {"crop": 0.5}, {"cutout": 0.5}])
def test_each_change_comes_as_often_as_asked(p: float, change: dict[str, Any]) -> None:
    grid = images(1, 1, 16, 16).expand(4000, -1, -1, -1)

    changed = (augment(grid, Augment(p=p, **change), draws(4000)) != grid).flatten(1).any(1).float().mean().item()

    # A flip mirrors half of them; of the 17 x 17 translations one is none.
    share = 0.5 if "flip" in change else 1 - 1 / 17**2 if "translate" in change else 1.0
    assert changed == pytest.approx(p * share, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_dtype_is_kept_also_under_autocast(dtype: torch.dtype) -> None:
    grid, settings = images(3, 1, 8, 8).to(dtype), Augment(translate=0.3, flip=True)
    plain = augment(grid, settings, draws(3))

    with torch.autocast("cpu", torch.bfloat16):
        mixed = augment(grid, settings, draws(3))

    assert plain.dtype == dtype and torch.equal(mixed, plain)
    assert set(plain.unique().tolist()) <= {-1.0, *grid.unique().tolist()}


@pytest.mark.parametrize("shape", [(2, 1, 16), (2, 1, 4, 4, 4)])
def test_other_grids_than_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"training\.augment: changes images of two axes"):
        augment(images(*shape), Augment(flip=True), draws(2))
