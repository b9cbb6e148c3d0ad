"""Inception-v3 for FID: the published tensors by name and shape, its preprocessing, pools that leave padding out.

No weights can be had where the tests run: shapes and arithmetic are held against tables and values worked out by hand.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genfoundry.core.errors import DataError
from genfoundry.evaluation.networks import inception
from genfoundry.evaluation.networks._contract import Weights
from genfoundry.evaluation.networks.inception import Block, Inception, Layer, load, prepare, resize_like_tf1

PUBLISHED = """
Conv2d_1a_3x3 32 3 3 3 | Conv2d_2a_3x3 32 32 3 3 | Conv2d_2b_3x3 64 32 3 3
Conv2d_3b_1x1 80 64 1 1 | Conv2d_4a_3x3 192 80 3 3
Mixed_5b: branch1x1 64 192 1 1 | branch5x5_1 48 192 1 1 | branch5x5_2 64 48 5 5 | branch3x3dbl_1 64 192 1 1 |
 branch3x3dbl_2 96 64 3 3 | branch3x3dbl_3 96 96 3 3 | branch_pool 32 192 1 1
Mixed_5c: branch1x1 64 256 1 1 | branch5x5_1 48 256 1 1 | branch5x5_2 64 48 5 5 | branch3x3dbl_1 64 256 1 1 |
 branch3x3dbl_2 96 64 3 3 | branch3x3dbl_3 96 96 3 3 | branch_pool 64 256 1 1
Mixed_5d: branch1x1 64 288 1 1 | branch5x5_1 48 288 1 1 | branch5x5_2 64 48 5 5 | branch3x3dbl_1 64 288 1 1 |
 branch3x3dbl_2 96 64 3 3 | branch3x3dbl_3 96 96 3 3 | branch_pool 64 288 1 1
Mixed_6a: branch3x3 384 288 3 3 | branch3x3dbl_1 64 288 1 1 | branch3x3dbl_2 96 64 3 3 | branch3x3dbl_3 96 96 3 3
Mixed_6b: branch1x1 192 768 1 1 | branch7x7_1 128 768 1 1 | branch7x7_2 128 128 1 7 | branch7x7_3 192 128 7 1 |
 branch7x7dbl_1 128 768 1 1 | branch7x7dbl_2 128 128 7 1 | branch7x7dbl_3 128 128 1 7 | branch7x7dbl_4 128 128 7 1 |
 branch7x7dbl_5 192 128 1 7 | branch_pool 192 768 1 1
Mixed_6c: branch1x1 192 768 1 1 | branch7x7_1 160 768 1 1 | branch7x7_2 160 160 1 7 | branch7x7_3 192 160 7 1 |
 branch7x7dbl_1 160 768 1 1 | branch7x7dbl_2 160 160 7 1 | branch7x7dbl_3 160 160 1 7 | branch7x7dbl_4 160 160 7 1 |
 branch7x7dbl_5 192 160 1 7 | branch_pool 192 768 1 1
Mixed_6d: branch1x1 192 768 1 1 | branch7x7_1 160 768 1 1 | branch7x7_2 160 160 1 7 | branch7x7_3 192 160 7 1 |
 branch7x7dbl_1 160 768 1 1 | branch7x7dbl_2 160 160 7 1 | branch7x7dbl_3 160 160 1 7 | branch7x7dbl_4 160 160 7 1 |
 branch7x7dbl_5 192 160 1 7 | branch_pool 192 768 1 1
Mixed_6e: branch1x1 192 768 1 1 | branch7x7_1 192 768 1 1 | branch7x7_2 192 192 1 7 | branch7x7_3 192 192 7 1 |
 branch7x7dbl_1 192 768 1 1 | branch7x7dbl_2 192 192 7 1 | branch7x7dbl_3 192 192 1 7 | branch7x7dbl_4 192 192 7 1 |
 branch7x7dbl_5 192 192 1 7 | branch_pool 192 768 1 1
Mixed_7a: branch3x3_1 192 768 1 1 | branch3x3_2 320 192 3 3 | branch7x7x3_1 192 768 1 1 | branch7x7x3_2 192 192 1 7 |
 branch7x7x3_3 192 192 7 1 | branch7x7x3_4 192 192 3 3
Mixed_7b: branch1x1 320 1280 1 1 | branch3x3_1 384 1280 1 1 | branch3x3_2a 384 384 1 3 | branch3x3_2b 384 384 3 1 |
 branch3x3dbl_1 448 1280 1 1 | branch3x3dbl_2 384 448 3 3 | branch3x3dbl_3a 384 384 1 3 | branch3x3dbl_3b 384 384 3 1 |
 branch_pool 192 1280 1 1
Mixed_7c: branch1x1 320 2048 1 1 | branch3x3_1 384 2048 1 1 | branch3x3_2a 384 384 1 3 | branch3x3_2b 384 384 3 1 |
 branch3x3dbl_1 448 2048 1 1 | branch3x3dbl_2 384 448 3 3 | branch3x3dbl_3a 384 384 1 3 | branch3x3dbl_3b 384 384 3 1 |
 branch_pool 192 2048 1 1
"""
"""Every convolution of the published file: its name, then outputs, inputs, kernel height and width."""


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of the published file."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for line in PUBLISHED.strip().replace("|\n ", "| ").splitlines():
        block, _, rest = line.rpartition(": ")
        for entry in rest.split(" | "):
            name, *sizes = entry.split()
            prefix = f"{block}.{name}" if block else name
            shapes[f"{prefix}.conv.weight"] = tuple(map(int, sizes))
            shapes |= {f"{prefix}.bn.{part}": (int(sizes[0]),) for part in ("weight", "bias")}
            shapes |= {f"{prefix}.bn.running_{part}": (int(sizes[0]),) for part in ("mean", "var")}
            shapes[f"{prefix}.bn.num_batches_tracked"] = ()
    return shapes


@pytest.fixture(scope="module")
def network() -> Inception:
    """Random weights of a scale that keeps all layers alive."""
    torch.manual_seed(0)
    made = Inception().eval()
    for module in made.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return made


def test_tensors_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        found = {name: tuple(tensor.shape) for name, tensor in Inception().state_dict().items()}

    assert found == published()
    assert len(found) == 566
    assert len([name for name in found if "num_batches" not in name]) == 472
    # 23,834,568 of torchvision's without its auxiliary head (1,000 classes), and eight classes more.
    learnt = [math.prod(shape) for name, shape in found.items() if not name.endswith(("tracked", "mean", "var"))]
    assert sum(learnt) == 23_834_568 - 2_048_000 - 1_000 + 1008 * 2048 + 1008


def test_features_and_logits_of_an_image(network: Inception) -> None:
    with torch.inference_mode():
        features, logits = network(prepare(torch.arange(2 * 64, dtype=torch.uint8).reshape(2, 1, 8, 8)))
        without_bias = features @ network.fc.weight.T

    assert features.shape == (2, 2048)
    assert logits.shape == (2, 1008)
    assert features.min() >= 0, "behind a ReLU"
    assert features.std() > 0
    # The Inception Score's logits leave the bias out.
    torch.testing.assert_close(logits, without_bias)
    assert network.fc.bias.abs().min() > 0


def test_resize_reads_corners_not_centres() -> None:
    row = torch.tensor([0.0, 90.0, 30.0]).reshape(1, 1, 1, 3)

    found = resize_like_tf1(row, 6)

    # Output pixel i reads the input at i / 2; what would lie behind the last pixel is the last pixel.
    assert found[0, 0, 0].tolist() == [0, 45, 90, 60, 30, 30]
    assert found[0, 0, 5].tolist() == found[0, 0, 0].tolist()


def test_resize_downwards_takes_every_other_pixel_without_smoothing() -> None:
    column = torch.arange(8, dtype=torch.float32).reshape(1, 1, 8, 1) ** 2

    found = resize_like_tf1(column, 4)

    assert found[0, 0, :, 0].tolist() == [0, 4, 16, 36]


def test_resize_is_the_plain_formula_pixel_by_pixel() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.float64)

    found = resize_like_tf1(torch.from_numpy(levels).float()[None, None], 11)[0, 0].numpy()

    for i in range(11):
        for j in range(11):
            y, x = i * 5 / 11, j * 7 / 11
            top, left = int(y), int(x)
            below, right = min(top + 1, 4), min(left + 1, 6)
            a, b = y - top, x - left
            wanted = (1 - a) * ((1 - b) * levels[top, left] + b * levels[top, right])
            wanted += a * ((1 - b) * levels[below, left] + b * levels[below, right])
            assert found[i, j] == pytest.approx(wanted, abs=1e-3)


def test_levels_become_the_graphs_range_in_three_channels() -> None:
    flat = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)

    found = prepare(flat)

    assert found.shape == (3, 3, 299, 299)
    for image, value in zip(found, (-1.0, 0.0, 127 / 128), strict=True):
        assert image.unique().tolist() == [value]


def pooling_block(pool: str) -> Block:
    """A block whose pool branch passes its input on and whose other branch is shut."""
    block = Block(1, ((Layer("branch1x1", 1),),), pool, pooled=1).eval()
    torch.nn.init.zeros_(block.branch1x1.conv.weight)
    torch.nn.init.ones_(block.branch_pool.conv.weight)
    for conv in (block.branch1x1, block.branch_pool):
        conv.bn.eps = 0.0
    return block


def through(block: Block, grid: Tensor) -> list[list[float]]:
    with torch.inference_mode():
        shut, pooled = block(grid[None, None])[0]
    assert shut.abs().max() == 0
    return pooled.tolist()


def test_average_pools_leave_padding_out_of_the_count() -> None:
    grid = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])

    # The mean over the neighbours that are there; counted with padding the corner would be 12 / 9.
    assert through(pooling_block("average"), grid) == [[3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0]]
    assert through(pooling_block("maximum"), grid) == [[5, 6, 6], [8, 9, 9], [8, 9, 9]]


def test_only_the_last_block_pools_by_the_maximum() -> None:
    with torch.device("meta"):
        network = Inception()
    full = [name for name, *_ in inception.BLOCKS if not network.get_submodule(name).reduces]

    assert [name for name in full if network.get_submodule(name).pool == "maximum"] == ["Mixed_7c"]
    assert full == [f"Mixed_{place}" for place in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c")]


def test_batch_normalisation_has_tensorflows_epsilon(network: Inception) -> None:
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]

    assert len(norms) == 94
    assert {norm.eps for norm in norms} == {0.001}


def test_saved_weights_come_back_and_counters_may_lack(network: Inception, tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "weights.pth")

    found = load(Weights(tmp_path / "weights.pth", ""), "cpu")

    grid = torch.rand(1, 3, 299, 299)
    with torch.inference_mode():
        for mine, theirs in zip(found.forward(grid), network(grid), strict=True):
            assert torch.equal(mine, theirs)


class Bomb:
    """Runs code when it is unpickled without weights_only."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a weights file was run",)


@pytest.mark.parametrize("content", ["bomb", "other", "list", "text", "empty"])
def test_what_is_no_such_file_is_refused_and_never_run(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.pth"
    if content == "text":
        file.write_text("not found")
    elif content == "empty":
        file.touch()
    else:
        torch.save({"bomb": Bomb(), "other": {"fc.weight": torch.zeros(2)}, "list": [1]}[content], file)

    with pytest.raises(DataError, match=r"weights\.pth: not the weights of Inception-v3 for FID"):
        load(Weights(file, ""), "cpu")
    assert "was run" not in capsys.readouterr().out
