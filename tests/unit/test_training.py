"""Exactness of training: checkpoints, resume at any step, selection, divergence. In process, without DVC."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from genfoundry import settings
from genfoundry.dag import Node
from genfoundry.errors import ConfigError, DivergedError, PreemptedError
from genfoundry.io import canonical_json, file_digest, publish_folder, read_json
from genfoundry.modelfile import seen
from genfoundry.models import transformer, vae
from genfoundry.paths import DatasetPaths, ModelPaths
from genfoundry.settings import Execution, Training
from genfoundry.specs import GridSpec, TokenSpec
from genfoundry.tracking.runs import NoRun
from genfoundry.training import loop
from genfoundry.training.checkpoints import Checkpoints
from genfoundry.training.control import Control, Selection
from genfoundry.training.optim import make_optimizers, rate_factor


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs but Python's own unwinding."""


def make_arrays(arrays: Path, kind: str) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    with publish_folder(arrays) as folder:
        if kind == "grid":
            spec = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"))
            for split, count in (("train", 60), ("val", 20), ("test", 20)):
                np.save(folder / f"{split}.npy", generator.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8))
                np.save(folder / f"{split}_labels.npy", np.arange(count) % 2)
        else:
            spec = TokenSpec(vocab_size=20)
            for split, count in (("train", 900), ("val", 120), ("test", 120)):
                np.save(folder / f"{split}_tokens.npy", generator.integers(0, 20, count, dtype=np.uint16))
            tokenizer(folder)
        for place, split in enumerate(("train", "val", "test")):
            np.save(folder / f"{split}_records.npy", np.arange(3, dtype=np.uint64) * 10 + place)
        (folder / "spec.json").write_bytes(canonical_json(spec.model_dump(mode="json")))


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({f"w{number}": number for number in range(20)}, unk_token="w1")).save(
        str(folder / "tokenizer.json")
    )


CASES = {
    "vae": ("grid", vae.Config(width=8, latent=3), {"batch": 8}),
    "vae-ema": ("grid", vae.Config(width=8, latent=3), {"batch": 8, "ema": 0.9}),
    "transformer": ("token", transformer.Config(width=16, layers=1, heads=2, context=8, dropout=0.1), {"batch": 6}),
    "transformer-muon": (
        "token",
        transformer.Config(width=16, layers=1, heads=2, context=8),
        {"batch": 6, "optimizer": {"name": "muon"}},
    ),
}


def run_training(root: Path, case: str, checkpoint_every: float = 1e9, **more: object) -> Path:
    """Train a case in a project folder; returns the weights file."""
    kind, options, training = CASES[case]
    dataset, model, scratch = DatasetPaths(root, "d"), ModelPaths(root, "m"), ModelPaths(root, "scratch")
    if not dataset.arrays.exists():
        make_arrays(dataset.arrays, kind)
        with publish_folder(scratch.model) as folder:
            (folder / "base.json").write_bytes(b"{}")
        (root / "params.yaml").write_text("models: {}\n")
    values = {
        "steps": 12,
        "val_every": 4,
        "log_every": 5,
        "sample_every": 6,
        "schedule": {"warmup": 2},
        **training,
        **more,
    }
    node = Node("train", "m", "", (), ("models",), ())
    execution = Execution(accelerator="cpu", threads=1, checkpoint_every=checkpoint_every)
    loop.train(
        node, options, Training.model_validate(values), execution, model, dataset, scratch, case.split("-")[0], NoRun()
    )
    return model.model / "weights.safetensors"


def outputs(root: Path) -> dict[str, str]:
    folders = (root / "artifacts/models/m", root / "reports/models/m")
    return {
        path.relative_to(root).as_posix(): file_digest(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    found = {}
    for case in CASES:
        root = tmp_path_factory.mktemp(case)
        run_training(root, case)
        found[case] = outputs(root)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kill_at", [1, 5, 6, 11, 12])
def test_a_kill_leaves_no_trace(
    case: str, kill_at: int, tmp_path: Path, undisturbed: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Control.on_train_batch_end

    def killed(self: Control, trainer: object, module: object, *rest: object) -> None:
        original(self, trainer, module, *rest)
        if module.done == kill_at:
            raise Killed

    monkeypatch.setattr(Control, "on_train_batch_end", killed)
    with pytest.raises(Killed):
        run_training(tmp_path, case, checkpoint_every=1e-9)
    monkeypatch.undo()
    torch.manual_seed(999)

    run_training(tmp_path, case)

    assert outputs(tmp_path) == undisturbed[case]
    assert not list((tmp_path / "checkpoints").glob("*/*"))


def test_a_signal_saves_and_ends_with_its_own_error(
    tmp_path: Path, undisturbed: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    before = signal.getsignal(signal.SIGTERM)
    original = Control.on_train_batch_end

    def signalled(self: Control, trainer: object, module: object, *rest: object) -> None:
        if module.done == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer, module, *rest)

    monkeypatch.setattr(Control, "on_train_batch_end", signalled)
    with pytest.raises(PreemptedError, match="after step 7") as caught:
        run_training(tmp_path, "vae")
    assert caught.value.exit_code == 143
    monkeypatch.undo()
    signal.signal(signal.SIGTERM, before)

    run_training(tmp_path, "vae")
    assert outputs(tmp_path) == undisturbed["vae"]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2, 3):
        checkpoints.save(step, {"step": step, "weights": torch.full((50,), float(step))})
    assert [step for step, _ in checkpoints.files()] == [3, 2]
    newest = checkpoints.files()[0][1]
    content = bytearray(newest.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"flip": bytes(content), "cut": bytes(content[:100]), "empty": b""}[harm])

    state = checkpoints.load()

    assert state is not None and state["step"] == 2
    assert "step 3 is damaged" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = vae.VAE.loss

    def poisoned(self: vae.VAE, objective: str, batch: object, step: object) -> object:
        found = original(self, objective, batch, step)
        return found._replace(total=found.total * math.nan) if step.number == 6 and self.training else found

    monkeypatch.setattr(vae.VAE, "loss", poisoned)
    with pytest.raises(DivergedError, match=r"step 10: .*loss is nan"):
        run_training(tmp_path, "vae", checkpoint_every=1e-9)
    assert not (tmp_path / "artifacts/models/m").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"batch": 61}, r"training.batch' is 61, but d has 60 training examples"),
        ({"optimizer": {"name": "muon"}}, "no hidden matrices"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, more: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_training(tmp_path, "vae", **more)


def test_a_gpu_that_is_not_there_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="sees no GPU; set it to auto"):
        from genfoundry.training.setup import choose_devices

        choose_devices(Execution(accelerator="gpu"))


def test_the_best_weights_are_kept_and_patience_ends_the_wait() -> None:
    selection = Selection(Training(patience=2))
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        selection.offer(step, loss, {"w": torch.tensor([float(step)])})
        assert not selection.exhausted
    selection.offer(4, 1.5, {"w": torch.tensor([4.0])})

    assert selection.exhausted
    assert selection.best["w"].item() == 2
    last = Selection(Training(select="last"))
    last.offer(1, 1.0, {"w": torch.tensor([1.0])})
    last.offer(2, 9.0, {"w": torch.tensor([2.0])})
    assert last.best["w"].item() == 2


def test_learning_rates_warm_up_hold_and_decay_to_the_final_share() -> None:
    schedule = settings.Schedule(warmup=10, hold=0.5, final=0.1)
    rates = [rate_factor(schedule, step, 101) for step in range(101)]

    assert rates[0] == pytest.approx(0.1) and rates[9] == 1
    assert set(rates[10:50]) == {1.0}
    assert rates[-1] == pytest.approx(0.1)
    assert rates[75] == pytest.approx(0.55)
    assert all(a >= b for a, b in pairwise(rates[50:]))


def test_weight_decay_spares_gains_and_biases() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    (optimizer,) = make_optimizers(list(model.parameters()), [], settings.Optimizer(weight_decay=0.5))

    decays = {
        parameter.ndim: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decays == {2: 0.5, 1: 0.0}


def test_the_report_counts_what_was_done(tmp_path: Path) -> None:
    run_training(tmp_path, "vae")
    told = read_json(tmp_path / "reports/models/m/train.json")

    assert told["steps"] == 12 and told["examples_seen"] == 96 and told["best_step"] in (4, 8, 12)
    assert (tmp_path / "reports/models/m/validation.csv").read_text().splitlines()[0] == "step,val_loss"
    assert sorted(path.name for path in (tmp_path / "reports/models/m/progress").glob("*.png")) == [
        "samples-0000006.png",
        "samples-0000012.png",
    ]


def test_a_model_knows_which_records_moved_it_and_its_ancestors(tmp_path: Path) -> None:
    run_training(tmp_path, "vae", steps=2)
    dataset, first = DatasetPaths(tmp_path, "d"), ModelPaths(tmp_path, "m")

    assert np.load(first.model / "seen.npy").tolist() == [0, 1, 10, 11, 20, 21]  # train and val, not test
    np.save(dataset.arrays / "train_records.npy", np.array([70], np.uint64))
    assert seen(dataset.arrays, first.model).tolist() == [0, 1, 10, 11, 20, 21, 70]
    (first.model / "seen.npy").unlink()
    assert seen(dataset.arrays, first.model) is None, "an ancestor whose records are unknown"
