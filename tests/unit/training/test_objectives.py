"""Objectives, components and frozen weights: what moves, what stays, what is saved."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import toycoded
import toydistill
from safetensors.torch import load_file
from torch import Tensor
from trainline import SPECS, killed_after, outputs, tiny, train

from genfoundry.config.sections.training import Training
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import read_json
from genfoundry.core.paths import ModelPaths
from genfoundry.generation.modelfile import build, load_model
from genfoundry.models import vae
from genfoundry.nn.contract import GridBatch, Model, Requests, Step
from genfoundry.training.objective import Objective, make_objective
from genfoundry.training.optim import make_optimizers

KIND, OPTIONS = tiny("vae")
DISTILL = {"name": "toydistill"}


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy parts of tests/support, as if they lay in objectives/ and models/."""
    load, mine = parts.load, {"toydistill": toydistill, "toycoded": toycoded}

    def found(kind: parts.Kind, name: str) -> ModuleType:
        return mine[name] if name in mine else load(kind, name)

    monkeypatch.setattr(parts, "load", found)


@pytest.fixture()
def frozen_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vae as a family that freezes its decoder."""
    whole = vae.build

    def frozen(config: vae.Config, spec: Any) -> Model:
        model = whole(config, spec)
        model.decoder.requires_grad_(False)
        return model

    monkeypatch.setattr(vae, "build", frozen)


def weights(root: Path, key: str = "m") -> dict[str, Tensor]:
    return load_file(ModelPaths(root, key).model / "weights.safetensors")


def teacher(root: Path) -> dict[str, ModelPaths]:
    """A trained vae beside the model to come."""
    train(root, "vae", KIND, OPTIONS, {"steps": 12})
    for place in ("artifacts", "reports"):
        (root / place / "models/m").rename(root / place / "models/teacher")
    return {"teacher": ModelPaths(root, "teacher")}


def test_frozen_weights_stay_and_are_published_and_a_kill_changes_nothing(tmp_path: Path, frozen_decoder: None) -> None:
    settings = {"steps": 7, "val_every": 3, "log_every": 4, "ema": 0.9, "seed": 5}
    train(tmp_path / "calm", "vae", KIND, OPTIONS, settings)
    fresh, kept = build("vae", OPTIONS, SPECS[KIND], 5).state_dict(), weights(tmp_path / "calm")

    assert kept.keys() == fresh.keys()
    moved = {name for name in kept if not torch.equal(kept[name], fresh[name])}
    assert moved and not [name for name in moved if name.startswith("decoder.")]
    frozen = sum(fresh[name].numel() for name in fresh if name.startswith("decoder."))
    assert read_json(tmp_path / "calm/reports/models/m/train.json")["frozen_parameters"] == frozen

    with killed_after(5):
        train(tmp_path / "killed", "vae", KIND, OPTIONS, settings, {"checkpoint_every": 1e-9})
    saved = torch.load(max((tmp_path / "killed").rglob("step-*.pt")), weights_only=True)
    for state in (saved["module"]["model"], saved["module"]["average"], saved["selection"]["best"]):
        assert state and not [name for name in state if name.startswith("decoder.")]
    train(tmp_path / "killed", "vae", KIND, OPTIONS, settings)
    assert outputs(tmp_path / "killed") == outputs(tmp_path / "calm")


def test_frozen_weights_get_no_optimizer(frozen_decoder: None) -> None:
    model = build("vae", OPTIONS, SPECS[KIND], 0)
    (moved,) = Objective(model).losses().values()
    (optimizer,) = make_optimizers(moved, [], Training().optimizer)

    held = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert held == {id(one) for one in model.parameters() if one.requires_grad}
    assert held.isdisjoint(id(one) for one in model.decoder.parameters())


def test_a_model_of_frozen_weights_alone_is_refused() -> None:
    model = build("vae", OPTIONS, SPECS[KIND], 0).requires_grad_(False)

    with pytest.raises(ConfigError, match="every parameter is frozen"):
        make_objective(model, SPECS[KIND], Training(), "m", {})


def test_a_rollout_takes_the_batch_s_place_and_a_kill_changes_nothing(tmp_path: Path) -> None:
    settings = {"steps": 7, "val_every": 3, "log_every": 4, "accumulate": 2}
    distilling, given = {**settings, "objective": DISTILL}, [teacher(tmp_path / place) for place in ("calm", "killed")]
    train(tmp_path / "calm", "vae", KIND, OPTIONS, distilling, components=given[0])
    train(tmp_path / "plain", "vae", KIND, OPTIONS, settings)
    with killed_after(5):
        hurried = {"checkpoint_every": 1e-9}
        train(
            tmp_path / "killed", "vae", KIND, OPTIONS, {**settings, "objective": DISTILL}, hurried, components=given[1]
        )
    train(tmp_path / "killed", "vae", KIND, OPTIONS, {**settings, "objective": DISTILL}, components=given[1])

    assert outputs(tmp_path / "killed") == outputs(tmp_path / "calm")
    distilled, plain = weights(tmp_path / "calm"), weights(tmp_path / "plain")
    assert any(not torch.equal(distilled[name], plain[name]) for name in plain)
    kept = weights(tmp_path / "killed", "teacher")
    assert all(torch.equal(one, kept[name]) for name, one in weights(tmp_path / "calm", "teacher").items())


def test_an_objective_s_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'models\.m\.training\.objective\.weight' is 'much'"):
        train(
            tmp_path, "vae", KIND, OPTIONS, {"objective": {**DISTILL, "weight": "much"}}, components=teacher(tmp_path)
        )
    with pytest.raises(ConfigError, match="unknown objectives part 'dpo'"):
        train(tmp_path, "vae", KIND, OPTIONS, {"objective": {"name": "dpo"}})


def test_seeds_of_a_step_depend_on_seed_step_and_example_alone() -> None:
    batch = GridBatch(torch.zeros(3, 1, 8, 8), torch.arange(3))
    one, other, more = Step(1, 9, 0).seeds(batch), Step(2, 9, 0).seeds(batch), Step(1, 9, 0).seeds(batch, 4)

    assert one.shape == (3,) and more.shape == (12,) and one.dtype == torch.int64
    assert not {*one.tolist()} & {*other.tolist()} and len({*more.tolist()}) == 12 and min(more) >= 0
    part = GridBatch(batch.grid[1:2], batch.index[1:2])
    assert Step(1, 9, 0).seeds(part, 4).tolist() == more.tolist()[4:8]


def test_a_family_s_components_are_published_inside_of_it(tmp_path: Path) -> None:
    codec = teacher(tmp_path)["teacher"]
    train(tmp_path, "toycoded", KIND, toycoded.Config(), {"steps": 5}, components={"codec": codec})
    published = ModelPaths(tmp_path, "m").model
    before, requests = load_model(published).model, Requests(torch.arange(3))

    for one in codec.model.iterdir():
        one.unlink()
    loaded = load_model(published).model
    with torch.inference_mode():
        drawn = loaded.sample(requests)
    assert weights(tmp_path).keys() == {"mean_Z", "log_deviation_Z"}
    assert drawn.shape == (3, 1, 8, 8) and torch.equal(drawn, before.sample(requests))
    assert not loaded.components["codec"].training
    assert not any(one.requires_grad for one in loaded.components["codec"].parameters())
    assert {one.dtype for one in loaded.double().components["codec"].parameters()} == {torch.float64}
