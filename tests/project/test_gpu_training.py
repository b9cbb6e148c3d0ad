"""The benchmark for GPUs runs at toy size wherever the tests run, so that a rented hour is not spent on its faults."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/gpu_training.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_training", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_of_it_runs_at_toy_size(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--toy", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-4000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary == json.loads((tmp_path / "gpu_training.json").read_text())
    assert summary["transformer"]["tokens_per_second"] > 0
    assert summary["scaling"]["ranks"] >= 2 and summary["scaling"]["speedup"] > 0
    assert "--cifar" in summary["diffusion"]["skipped"]


def test_flops_of_a_token_are_those_counted_by_hand(benchmark: ModuleType) -> None:
    spec, config, model = benchmark.token_model(True)
    size = sum(parameter.numel() for parameter in model.parameters())
    table = 0 if getattr(config, "tied", False) else 257 * 32

    assert benchmark.flops_of_token(model, config, spec) == 6 * (size - table) + 12 * 2 * 32 * 32


def test_images_of_a_zip_become_arrays(benchmark: ModuleType, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "images.zip", "w") as packed:
        for name, level in (("train/cat/0.jpg", 10), ("train/dog/0.jpg", 200), ("test/cat/0.jpg", 90)):
            Image.new("RGB", (32, 32), (level, level, level)).save(tmp_path / "one.jpg")
            packed.write(tmp_path / "one.jpg", name)

    spec = benchmark.read_images(tmp_path / "images.zip", tmp_path, 0)

    arrays = tmp_path / "artifacts/datasets/cifar/arrays"
    assert spec.labels == ("cat", "dog")
    assert np.load(arrays / "train.npy").mean((1, 2, 3)) == pytest.approx([10, 200], abs=2)
    assert np.load(arrays / "train_labels.npy").tolist() == [0, 1]
    assert np.load(arrays / "val.npy").shape == (1, 3, 32, 32)


def test_the_clock_leaves_the_first_steps_out(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([11.0, 14.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(times))
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight])
    clock = benchmark.Clock(3, 5)
    with clock.running():
        for _ in range(7):
            optimizer.step()

    assert clock.steps == 7
    assert clock.seconds == pytest.approx(1.5)
