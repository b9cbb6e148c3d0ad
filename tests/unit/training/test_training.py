"""Exactness of training: checkpoints, resume at any step, selection, divergence. In process, without DVC."""

import csv
import math
import os
import signal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from trainline import killed_after, outputs, tiny, train

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Optimizer, Schedule, Training
from genfoundry.core.errors import ConfigError, DataError, DivergedError, PreemptedError
from genfoundry.core.io import read_json
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.modelfile import seen
from genfoundry.models import transformer, vae
from genfoundry.training.checkpoints import Checkpoints
from genfoundry.training.control import Selection
from genfoundry.training.module import Trainee
from genfoundry.training.optim import make_optimizers, rate_factor

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


def run_training(root: Path, case: str, checkpoint_every: float = 1e9, **more: object) -> None:
    """Train a case in a project folder."""
    kind, options, training = CASES[case]
    train(root, case.split("-")[0], kind, options, {**training, **more}, {"checkpoint_every": checkpoint_every})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    found = {}
    for case in CASES:
        root = tmp_path_factory.mktemp(case)
        run_training(root, case)
        found[case] = outputs(root)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kill_at", [1, 4, 5, 7, 11, 12])
def test_a_kill_leaves_no_trace(
    case: str, kill_at: int, tmp_path: Path, undisturbed: dict[str, dict[str, str]]
) -> None:
    with killed_after(kill_at):
        run_training(tmp_path, case, checkpoint_every=1e-9)
    torch.manual_seed(999)

    run_training(tmp_path, case)

    assert outputs(tmp_path) == undisturbed[case]
    assert not list((tmp_path / "checkpoints").glob("*/*"))


@pytest.mark.parametrize("at", [7, 8])
def test_a_signal_saves_and_ends_with_its_own_error(
    at: int, tmp_path: Path, undisturbed: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    original = Trainee.step

    def signalled(self: Trainee, batch: object) -> None:
        original(self, batch)
        if self.done == at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainee, "step", signalled)
    with pytest.raises(PreemptedError, match=f"after step {at}") as caught:
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


def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    file = Checkpoints(tmp_path / "m-0123").save(4, {"step": 4})
    (tmp_path / "m-4567").mkdir()
    moved = file.rename(tmp_path / "m-4567" / file.name)

    with pytest.raises(DataError, match=r"step-000000004.*another run.*init_from"):
        Checkpoints(tmp_path / "m-4567").load()
    assert moved.exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = vae.VAE.loss

    def poisoned(self: vae.VAE, objective: str, batch: object, step: object) -> object:
        found = original(self, objective, batch, step)
        return found._replace(total=found.total * math.nan) if step.number == 6 and self.training else found

    monkeypatch.setattr(vae.VAE, "loss", poisoned)
    with pytest.raises(DivergedError, match=r"step 7: .*loss is nan"):
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
    schedule = Schedule(warmup=10, hold=0.5, final=0.1)
    rates = [rate_factor(schedule, step, 101) for step in range(101)]

    assert rates[0] == pytest.approx(0.1) and rates[9] == 1
    assert set(rates[10:50]) == {1.0}
    assert rates[-1] == pytest.approx(0.1)
    assert rates[75] == pytest.approx(0.55)
    assert all(a >= b for a, b in pairwise(rates[50:]))


def test_weight_decay_spares_gains_and_biases() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    (optimizer,) = make_optimizers(list(model.parameters()), [], Optimizer(weight_decay=0.5))

    decays = {
        parameter.ndim: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decays == {2: 0.5, 1: 0.0}


def test_an_adversarial_family_has_the_curves_of_both_players_and_one_to_plot(tmp_path: Path) -> None:
    kind, options = tiny("gan")
    train(tmp_path, "gan", kind, options, {"steps": 4, "log_every": 2}, {})
    with (tmp_path / "reports/models/m/history.csv").open() as file:
        points = list(csv.DictReader(file))

    assert [point["step"] for point in points] == ["2", "4"]
    assert all(point["loss"] == point["critic"] != point["generator"] for point in points)


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
