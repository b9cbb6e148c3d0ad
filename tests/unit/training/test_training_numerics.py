"""Numerics of training: parts of a batch, precision, averages, recomputed blocks; and what a run says about itself."""

import math
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from processes import run_processes
from safetensors.torch import load_file
from torch import nn
from trainline import SPECS, killed_after, outputs, tiny, train

from genfoundry.config.sections.training import Schedule, Training
from genfoundry.core import io, pin
from genfoundry.core.errors import ConfigError, DataError, DiskError, DivergedError
from genfoundry.core.processes import cores
from genfoundry.models import transformer, vae
from genfoundry.nn.contract import TokenBatch
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import open_store
from genfoundry.training import curve, estimate, loop
from genfoundry.training.batches import Stream, burst_end
from genfoundry.training.checkpoints import Checkpoints
from genfoundry.training.module import Trainee
from genfoundry.training.optim import rate_factor
from genfoundry.training.peaks import peak_flops
from genfoundry.training.steps import Averager, Precision, check_numerics, in_parts, prepare_units, seed_of

PLAIN = transformer.Config(width=16, layers=2, heads=2, context=8)


def weights(root: Path) -> dict[str, torch.Tensor]:
    return load_file(root / "artifacts/models/m/model/weights.safetensors")


def column(root: Path, name: str) -> list[float]:
    table = np.genfromtxt(root / "reports/models/m/history.csv", delimiter=",", names=True)
    return table[name].tolist()


@pytest.mark.parametrize(("family", "kind"), [("vae", "grid"), ("transformer", "token")])
def test_a_batch_in_parts_is_the_batch(tmp_path: Path, family: str, kind: str) -> None:
    options = PLAIN if kind == "token" else vae.Config(width=8, latent=3)
    for name, accumulate in (("whole", 1), ("parts", 4)):  # 6 examples in parts of 2, 2, 1, 1
        train(tmp_path / name, family, kind, options, {"accumulate": accumulate, "optimizer": {"name": "sgd"}})

    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
    assert column(tmp_path / "parts", "loss") == pytest.approx(column(tmp_path / "whole", "loss"), rel=1e-5)


def test_parts_weigh_by_their_target_tokens() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    parts = in_parts(TokenBatch(torch.zeros(3, 3, dtype=torch.int64), mask, torch.arange(3)), 3)

    assert [float(share) for _, share in parts] == pytest.approx([2 / 3, 0, 1 / 3])
    assert [piece.index.tolist() for piece, _ in parts] == [[0], [1], [2]]


def test_parts_of_a_rank_weigh_by_the_targets_of_all_ranks() -> None:
    """Of two ranks with 6 and 2 targets, each takes its sum over 4: their mean is the sum over all 8."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1]])
    batch = TokenBatch(torch.zeros(2, 4, dtype=torch.int64), mask, torch.arange(2))

    assert [float(share) for _, share in in_parts(batch, 1, torch.tensor(4.0))] == [1.5]
    assert [float(share) for _, share in in_parts(batch, 2, torch.tensor(4.0))] == [0.75, 0.75]


def by_label(rank: int, world: int, root: Path) -> None:
    """One rank of a training whose windows differ in length."""
    os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    os.environ |= {name: str(world) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    os.environ |= {"TORCHELASTIC_RUN_ID": "of a test", "GROUP_RANK": "0"}
    options = PLAIN.model_copy(update={"conditional": True})
    train(root, "transformer", "labelled", options, {"accumulate": 2}, {"devices": world})


def test_two_ranks_draw_the_curve_of_one_from_windows_of_unequal_lengths(tmp_path: Path) -> None:
    options = PLAIN.model_copy(update={"conditional": True})
    train(tmp_path / "one", "transformer", "labelled", options, {})
    for folder in ("artifacts/datasets", "artifacts/models/scratch"):
        shutil.copytree(tmp_path / "one" / folder, tmp_path / "two" / folder)
    shutil.copyfile(tmp_path / "one/params.yaml", tmp_path / "two/params.yaml")

    run_processes(by_label, 2, tmp_path / "two")

    for name in ("loss", "grad_norm"):
        assert column(tmp_path / "two", name) == pytest.approx(column(tmp_path / "one", name), rel=1e-5), name


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_stays_near_the_full_one(tmp_path: Path, precision: str) -> None:
    for name in ("32", precision):
        train(tmp_path / name, "transformer", "token", PLAIN, {"precision": name})

    assert column(tmp_path / precision, "loss") == pytest.approx(column(tmp_path / "32", "loss"), rel=0.01)
    assert any(not torch.equal(a, weights(tmp_path / "32")[name]) for name, a in weights(tmp_path / precision).items())
    if precision == "16-mixed":
        assert column(tmp_path / precision, "loss_scale") == [65536.0] * 3


def test_an_overflow_in_float16_skips_its_step_and_halves_the_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, before = transformer.Transformer.loss, []

    def overflowing(self: transformer.Transformer, objective: str, batch: object, step: object) -> object:
        found = original(self, objective, batch, step)
        if self.training and step.number in (6, 7):
            before.append([parameter.clone() for parameter in self.parameters()])
        if self.training and step.number == 6:
            found.total.register_hook(lambda gradient: gradient * math.inf)
        return found

    monkeypatch.setattr(transformer.Transformer, "loss", overflowing)
    with killed_after(8):
        train(tmp_path, "transformer", "token", PLAIN, {"precision": "16-mixed"}, {"checkpoint_every": 1e-9})
    train(tmp_path, "transformer", "token", PLAIN, {"precision": "16-mixed"})

    assert all(torch.equal(a, b) for a, b in zip(*before, strict=True))
    assert column(tmp_path, "skipped_steps") == [0, 1, 1]
    assert column(tmp_path, "loss_scale") == [65536, 32768, 32768]
    assert np.isfinite(column(tmp_path, "grad_norm")).all()


def test_a_scale_that_falls_below_one_is_a_divergence() -> None:
    precision = Precision("16-mixed")
    for _ in range(16):
        precision.update(fitted=False)
    with pytest.raises(DivergedError, match="overflow float16"):
        precision.update(fitted=False)


@pytest.mark.skipif(cores() < 2, reason="a resumed run takes no more threads than there are cores")
def test_a_resumed_run_goes_on_with_the_threads_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is free differs from one start to the next; sums go by the number of threads."""
    monkeypatch.delenv(pin.THREADS, raising=False)
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv(pin.FREE, "2")
        with killed_after(8):
            train(tmp_path, "transformer", "token", PLAIN, {}, {"threads": 0, "checkpoint_every": 1e-9})
        monkeypatch.setenv(pin.FREE, "1")
        train(tmp_path, "transformer", "token", PLAIN, {}, {"threads": 0})
        assert torch.get_num_threads() == 2
        (tmp_path / "artifacts/models/m/model").rename(tmp_path / "resumed")
        train(tmp_path, "transformer", "token", PLAIN, {}, {"threads": 0})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_average_forgets_the_first_weights_soon() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    averager = Averager(model, decay=0.9)
    nn.init.constant_(model.weight, 1.0)
    averager.update(0)
    assert averager.mean[0].item() == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    averager.update(1000)
    assert averager.mean[0].item() == pytest.approx(0.91)  # decay 0.9

    averager.swap()
    assert model.weight.item() == pytest.approx(0.91) and averager.mean[0].item() == 1


def test_wsd_stays_then_falls_by_one_minus_the_square_root() -> None:
    rates = [rate_factor(Schedule(name="wsd", warmup=5, final=0.0), step, 101) for step in range(101)]

    assert rates[5:81] == [1.0] * 76
    assert rates[85] == pytest.approx(1 - math.sqrt(5 / 20)) and rates[100] == 0
    assert rate_factor(Schedule(name="wsd", warmup=5, final=0.0, hold=0.5), 60, 101) < 1


def test_recomputed_blocks_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[bool] = Counter()
    original = transformer.Block.forward

    def counted(self: transformer.Block, *values: object) -> object:
        calls[self.training] += 1
        return original(self, *values)

    monkeypatch.setattr(transformer.Block, "forward", counted)
    seen = []
    for name, recompute in (("plain", False), ("again", True)):
        calls.clear()
        train(tmp_path / name, "transformer", "token", PLAIN, {"recompute": recompute})
        seen.append(calls[True])

    assert seen == [2 * 12, 2 * 2 * 12]
    name = "artifacts/models/m/model/weights.safetensors"
    assert outputs(tmp_path / "again")[name] == outputs(tmp_path / "plain")[name]


def test_every_block_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    model = transformer.build(PLAIN, SPECS["token"])

    prepare_units(model, Training(compile=True, determinism="fast"))

    assert compiled == list(model.blocks)


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler")
def test_compiled_blocks_train_as_the_others_do(tmp_path: Path) -> None:
    """By the real compiler: the curve, resumed once, and the names of the weights are those of the run without it."""
    kind, options = tiny("transformer")
    options = options.model_copy(update={"dropout": 0.0})
    settings = {"determinism": "fast", "log_every": 1, "ema": 0.9}
    train(tmp_path / "plain", "transformer", kind, options, settings)
    with killed_after(7):
        train(
            tmp_path / "compiled",
            "transformer",
            kind,
            options,
            {**settings, "compile": True},
            {"checkpoint_every": 1e-9},
        )
    train(tmp_path / "compiled", "transformer", kind, options, {**settings, "compile": True})

    assert column(tmp_path / "compiled", "loss") == pytest.approx(column(tmp_path / "plain", "loss"), rel=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    names = [
        load_file(tmp_path / name / "artifacts/models/m/model/weights.safetensors") for name in ("plain", "compiled")
    ]
    assert names[0].keys() == names[1].keys()


@pytest.mark.parametrize(
    ("family", "more", "said"),
    [
        ("vae", {"optimizers": {"critic": {}}}, "names loss 'critic'; vae has loss"),
        ("vae", {"recompute": True}, "recompute' is true, but vae names no repeated blocks"),
        ("vae", {"compile": True, "determinism": "fast"}, "compile' is true, but vae names no repeated blocks"),
        ("transformer", {"compile": True}, "compile' is true, .* set determinism to fast"),
        ("transformer", {"augment": {"flip": True}}, "augment' changes images, but transformer learns from tokens"),
    ],
)
def test_what_a_family_cannot_heed_is_refused(family: str, more: dict[str, object], said: str) -> None:
    kind, options = tiny(family)
    model = {"vae": vae, "transformer": transformer}[family].build(options, SPECS[kind])
    model.units = lambda: list(getattr(model, "blocks", []))

    with pytest.raises(ConfigError, match=said):
        check_numerics(model, list(model.losses()), Training.model_validate(more), SPECS[kind], family, "m")


def test_more_parts_than_examples_are_refused(tmp_path: Path) -> None:
    kind, options = tiny("vae")
    with pytest.raises(ConfigError, match=r"accumulate' is 7, .* share of a batch is 6 examples"):
        train(tmp_path, "vae", kind, options, {"accumulate": 7})


def test_bursts_hold_every_step_once_and_end_where_something_is_to_be_done() -> None:
    training = Training(steps=57, log_every=7, val_every=20, sample_every=25)
    data = SimpleNamespace(batch=lambda step, *more: {"tokens": np.full((1, 2), step), "index": np.array([step])})
    bursts = [[batch.index.item() for batch in burst] for burst in Stream(data, SPECS["token"], training, 3)]

    assert [step for burst in bursts for step in burst] == list(range(3, 57))
    ends = {burst[-1] + 1 for burst in bursts}
    assert ends == {step for step in range(4, 58) if step == 57 or any(step % n == 0 for n in (7, 20, 25, 10))}
    assert all(burst_end(training, step) == burst[-1] + 1 for burst in bursts for step in burst)


def test_workers_that_read_ahead_change_nothing(tmp_path: Path) -> None:
    kind, options = tiny("vae")
    for workers in (0, 1, 3):
        train(tmp_path / str(workers), "vae", kind, options, {}, {"workers": workers})

    assert outputs(tmp_path / "1") == outputs(tmp_path / "0") == outputs(tmp_path / "3")


def test_seeds_of_steps_ranks_and_runs_differ() -> None:
    seeds = {seed_of(seed, step, rank) for seed in range(10) for step in range(100) for rank in range(8)}

    assert len(seeds) == 8000 and min(seeds) >= 0 and max(seeds) < 2**63


@pytest.mark.parametrize("more", [{"ema": 0.9}, {"precision": "16-mixed", "optimizer": {"name": "sgd"}}])
def test_the_trial_before_a_run_leaves_no_trace(
    tmp_path: Path, more: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, options = tiny("vae")
    long = {"steps": 150, "val_every": 75, "log_every": 50, "sample_every": 150, **more}
    train(tmp_path / "tried", "vae", kind, options, long)
    told = capsys.readouterr().out
    monkeypatch.setattr(estimate, "TRIAL_SHARE", 0.0)
    train(tmp_path / "untried", "vae", kind, options, long)

    assert "ms a step" in told and "activations" in told and "ms a step" not in capsys.readouterr().out
    assert outputs(tmp_path / "tried") == outputs(tmp_path / "untried")


def test_memory_is_told_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, options = tiny("vae")
    train(tmp_path, "vae", kind, options, {"ema": 0.9})
    count = sum(tensor.numel() for tensor in weights(tmp_path).values())

    size, twice = (f"{4 * times * count / 1024:.3g} KiB" for times in (1, 2))
    assert f"{count:,} parameters; memory {size} weights + {size} gradients + {twice} optimizer + {size} average" in (
        capsys.readouterr().out
    )


def test_a_disk_without_room_is_said_before_a_step_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setattr(Trainee, "training_step", lambda *values: pytest.fail("a step was done"))
    kind, options = tiny("vae")

    with pytest.raises(DiskError, match=r"the model and 3 checkpoints need .* 1e\+03 B are free"):
        train(tmp_path, "vae", kind, options, {})


def test_operations_are_counted_once_also_where_blocks_are_recomputed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    def counting(module: Trainee, batch: object, folder: Path) -> str:
        counted.append(estimate.flops_of(module, batch))
        assert not module.sums.totals and all(parameter.grad is None for parameter in module.parameters())
        return ""

    monkeypatch.setattr(loop, "estimate", counting)
    for recompute in (False, True):
        train(tmp_path / str(recompute), "transformer", "token", PLAIN, {"recompute": recompute})

    model = transformer.build(PLAIN, SPECS["token"])
    matrices = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear))
    assert counted[0] == counted[1]
    assert counted[0] == pytest.approx(6 * matrices * 6 * 8, rel=0.2)  # attention is the rest


def test_peaks_are_found_by_name_and_precision() -> None:
    assert peak_flops("1 x NVIDIA H200", "bf16-mixed") == 989.4e12
    assert peak_flops("1 x NVIDIA H200 NVL", "bf16-mixed") == 835e12
    assert peak_flops("8 x NVIDIA A100-SXM4-80GB", "32") == 19.5e12
    assert peak_flops("1 x NVIDIA GeForce RTX 4090", "16-mixed") == 165.2e12
    assert peak_flops("1 x NVIDIA L40S", "16-mixed") == 362e12
    assert peak_flops("1 x NVIDIA A10G", "16-mixed") == 0
    assert peak_flops("2 x x86_64 CPU", "32") == 0


def test_a_killed_run_s_curves_have_every_step_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, "p")
    run_id = store.client.create_run(store.experiment).info.run_id
    kind, options = tiny("vae")
    for kill in (7, 11):
        with killed_after(kill):
            train(
                tmp_path,
                "vae",
                kind,
                options,
                {"log_every": 2},
                {"checkpoint_every": 1e-9},
                Run(store, run_id, "train"),
            )
    run = Run(store, run_id, "train")
    train(tmp_path, "vae", kind, options, {"log_every": 2}, run=run)
    run.flush()

    def steps(name: str) -> list[int]:
        return [point.step for point in store.client.get_metric_history(run_id, f"train/{name}")]

    assert steps("loss") == steps("grad_norm") == [2, 4, 6, 8, 10, 12]
    assert steps("lr")[0] == 2 and steps("lr")[-1] == 12
    assert sorted({*steps("lr")}) == steps("lr") and {*steps("lr")} <= {*steps("loss")}
    assert steps("val_loss") == [4, 8, 12]
    assert set(steps("samples_per_second")) <= set(steps("loss"))
    told = store.client.get_run(run_id).data
    assert told.metrics["train/loss"] == pytest.approx(column(tmp_path, "loss")[-1])
    assert "torch" in told.tags["genfoundry.versions"] and "1 x" in told.tags["genfoundry.devices"]


def test_rates_and_speeds_come_once_in_a_while_and_at_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """One point in four has everything; a speed is that of all steps since the last."""
    sent: dict[int, dict[str, float]] = {}
    told = SimpleNamespace(
        last_steps=dict, flush=lambda: None, metrics=lambda values, step: sent.update({step: values})
    )
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(curve, "time", SimpleNamespace(monotonic=lambda: clock.now))
    module = SimpleNamespace(done=0, history=[], training_settings=SimpleNamespace(steps=80))
    line = curve.Curve(told, "samples", 4)
    line.start(module, [])
    for step in range(10, 81, 10):
        clock.now += curve.SPARSE_S / 4
        module.done, module.history = step, [{"step": step, "loss": 1.0, "lr_critic": 0.1}]
        line.add(module)

    assert [step for step, values in sent.items() if "lr_critic" in values] == [10, 50, 80]
    assert {step: values["samples_per_second"] for step, values in sent.items() if "samples_per_second" in values} == {
        10: 40 / (curve.SPARSE_S / 4),
        50: 40 / (curve.SPARSE_S / 4),
        80: 40 / (curve.SPARSE_S / 4),
    }
    assert all(values["loss"] == 1.0 for values in sent.values()) and len(sent) == 8


def test_a_pickle_with_code_is_refused_unread(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    checkpoints = Checkpoints(tmp_path / "c")
    for number, content in enumerate((pickle.dumps(Code()), b"no archive at all")):
        path = tmp_path / f"c/step-{number:09d}.pt"
        io.write_text(path, "")
        path.write_bytes(content)
        path.rename(path.with_name(f"step-{number:09d}-{io.file_digest(path)}.pt"))

        with pytest.raises(DataError, match="no checkpoint of ours"):
            checkpoints.load()
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainee.step

    def spoiling(self: Trainee, batch: object) -> None:
        original(self, batch)
        if self.done == 7:
            with torch.no_grad():
                self.model.to_latent.bias.fill_(math.inf)

    monkeypatch.setattr(Trainee, "step", spoiling)
    kind, options = tiny("vae")
    with pytest.raises(DivergedError, match=r"step 7: weights to_latent\.bias"):
        train(tmp_path, "vae", kind, options, {}, {"checkpoint_every": 1e-9})

    kept = list((tmp_path / "checkpoints").glob("*/step-*.pt"))
    assert sorted(path.name[:14] for path in kept) == ["step-000000005", "step-000000006"]
