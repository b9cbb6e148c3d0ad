"""The recurrent family: what the contract test of all families does not know of it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from genfoundry.config.specs import TokenSpec
from genfoundry.core.io import canonical_json, publish_folder
from genfoundry.generation.modelfile import load_model, write_model
from genfoundry.models import rnn
from genfoundry.nn.contract import Step, TokenBatch

SPEC = TokenSpec(vocab_size=11)
STEP = Step(number=3, total=10, seed=1)
CELLS = ("gru", "lstm")
TOKENS = torch.randint(1, 11, (4, 13), generator=torch.Generator().manual_seed(5))
BATCH = TokenBatch(TOKENS, torch.ones(TOKENS.shape), torch.arange(4))


def make(fresh: bool = False, **options: object) -> rnn.RNN:
    torch.manual_seed(0)
    model = rnn.build(rnn.Config.model_validate({"width": 8, "layers": 2, "context": 12, **options}), SPEC)
    if not fresh:
        torch.nn.init.ones_(model.norm.weight)
        torch.nn.init.normal_(model.head.weight)
    return model


def gradients(model: rnn.RNN) -> torch.Tensor:
    model.loss("loss", BATCH, STEP).total.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_fresh_model_pays_log_v_nats_a_token(cell: str, tied: bool) -> None:
    loss = make(fresh=True, cell=cell, tied=tied).loss("loss", BATCH, STEP).total

    assert loss.item() == pytest.approx(math.log(11), abs=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_reading_step_by_step_is_reading_the_whole(cell: str) -> None:
    model = make(cell=cell)
    states: list[rnn.State | None] = [None, None]

    steps = [model(TOKENS[:, place : place + 1], states) for place in range(13)]

    torch.testing.assert_close(torch.cat(steps, dim=1), model(TOKENS))


@pytest.mark.parametrize("cell", CELLS)
def test_truncation_moves_the_gradient_and_not_the_loss(cell: str) -> None:
    whole, cut, wide = (make(cell=cell, truncate=truncate) for truncate in (0, 5, 12))

    torch.testing.assert_close(cut.loss("loss", BATCH, STEP).total, whole.loss("loss", BATCH, STEP).total)
    found = [gradients(model) for model in (whole, cut, wide)]
    torch.testing.assert_close(found[2], found[0])
    assert (found[1] - found[0]).norm() > 0.01 * found[0].norm()


def test_truncated_gradients_stop_at_the_edge_of_a_piece() -> None:
    model = make(truncate=6)
    embedded: list[torch.Tensor] = []
    model.embed.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    model.embed.register_forward_hook(lambda module, inputs, output: output.retain_grad())

    model.nats(TOKENS)[:, 6:].sum().backward()

    assert [piece.shape[1] for piece in embedded] == [6, 6]
    assert not embedded[0].grad.any() and embedded[1].grad.any()


def test_the_future_does_not_move_the_past() -> None:
    model, changed = make(), TOKENS.clone()
    changed[:, 8:] = 1

    torch.testing.assert_close(model.nats(changed)[:, :7], model.nats(TOKENS)[:, :7])


@pytest.mark.parametrize("tied", [False, True])
def test_tied_weights_are_one_tensor_also_after_a_load(tied: bool, tmp_path: Path) -> None:
    model, arrays = make(tied=tied), tmp_path / "arrays"
    arrays.mkdir()
    (arrays / "spec.json").write_bytes(canonical_json(SPEC.model_dump(mode="json")))
    for split in ("train", "val"):
        np.save(arrays / f"{split}_records.npy", np.arange(2, dtype="uint64"))
    with publish_folder(tmp_path / "model") as folder:
        write_model(folder, model.state_dict(), "rnn", model.config, arrays)

    found = load_model(tmp_path / "model").model

    assert (found.head.weight is found.embed.weight) == tied
    torch.testing.assert_close(found.nats(TOKENS), model.nats(TOKENS), rtol=0, atol=0)
    assert sum(p.numel() for p in make().parameters()) - sum(p.numel() for p in make(tied=True).parameters()) == 11 * 8


def test_dropout_acts_in_training_alone() -> None:
    model = make(dropout=0.5)
    trained, again = model.nats(TOKENS), make(dropout=0.0).nats(TOKENS)

    assert not torch.allclose(trained, again)
    torch.testing.assert_close(model.eval().nats(TOKENS), again)
