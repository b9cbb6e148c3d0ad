"""Shard weights, gradients and optimizer states over devices (FSDP; Zhao et al. 2023, arXiv:2304.11277).

A checkpoint always holds whole tensors in the layout of one process, so that any strategy on any number of devices
goes on from it. Where nothing is divided, each function is what torch does on one device.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from genfoundry.nn.contract import Model

ENTRIES = ("loss", "sample", "nats", "encode", "decode")
"""Methods by which a family is called besides ``forward``: before each the root's own weights are gathered."""


def shard(model: Model, mesh: DeviceMesh) -> None:
    """Divide every weight along its first dimension: the family's units one by one, the rest as the root.

    The root's weights stay gathered from the forward to the backward pass, as a loss may use them at any place.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for unit in model.units():
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for name in ENTRIES:
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)


def reshard(model: nn.Module) -> None:
    """Free the gathered weights that a forward pass without a backward pass has left."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(value: Any) -> Any:
    """The same nested lists and mappings with plain whole tensors on the CPU; all ranks must call it together."""
    if isinstance(value, Tensor):
        value = value.detach()
        return (value.full_tensor() if isinstance(value, DTensor) else value).cpu()
    if isinstance(value, Mapping):
        return {name: whole(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(entry) for entry in value)
    return value


def divided(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor on the device of another one, and divided as that one is."""
    value = value.to(like.device)
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        # Every rank holds the whole: each takes its slice, nothing is sent.
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return value


def divided_as(values: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Whole tensors by name, each divided as the model's tensor of that name, such as EMA weights."""
    return {name: divided(values[name], like) for name, like in model.state_dict().items()}


def frozen_state(model: nn.Module) -> dict[str, Tensor]:
    """The frozen weights by name; they share the model's memory."""
    frozen = {name for name, one in model.named_parameters(remove_duplicate=False) if not one.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name in frozen}


def moving_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights and buffers but the frozen ones, by name; they share the model's memory."""
    frozen = frozen_state(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def full_state(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
    """``model``, without what is frozen, and ``optimizers`` as one process saves them; all ranks call it together."""
    return {"model": whole(moving_state(model)), "optimizers": [whole(one.state_dict()) for one in optimizers]}


def load_state(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    model_state: Mapping[str, Tensor],
    optimizer_states: Sequence[Mapping[str, Any]],
) -> None:
    """Load what ``full_state`` returned, on any number of devices; every rank holds the whole state."""
    model.load_state_dict(divided_as({**frozen_state(model), **model_state}, model))
    for optimizer, state in zip(optimizers, optimizer_states, strict=True):
        load_optimizer(optimizer, state)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the whole state of an optimizer, numbered by parameter as ``Optimizer.state_dict`` does."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    fitted = {
        number: {name: _fit(entry, parameters[number]) for name, entry in entries.items()}
        for number, entries in state["state"].items()
    }
    optimizer.load_state_dict({"state": fitted, "param_groups": state["param_groups"]})


def _fit(entry: Any, parameter: Tensor) -> Any:
    """Moments have their parameter's shape and are divided like it; counters are left as they are."""
    if isinstance(entry, Tensor) and entry.shape == parameter.shape and isinstance(parameter, DTensor):
        return divided(entry, parameter)
    return entry


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Norm of all gradients over all devices, float32 scalar; scales them down to ``limit`` unless that is 0."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    total = get_total_norm([parameter.grad for parameter in parameters], foreach=None)
    if isinstance(total, DTensor):
        total = total.full_tensor()
    if limit:
        clip_grads_with_norm_(parameters, limit, total, foreach=None)
    return total
