"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

Matrices of equal shape go through one chain of batched products, where torch.optim.Muon takes them one by one.
Letters in tensor names: N matrices, R rows and C columns with R <= C.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = {
    5: ((3.4445, -4.7750, 2.0315),) * 5,
    3: ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)),
}
"""Of the quintics a x + b x^3 + c x^5, by the number of steps. Five: as published, one polynomial with a steep slope at
0, which takes singular values into about [0.7, 1.2], not to 1 (Jordan et al.). Three: each step the best polynomial
over what the step before leaves of [0.01, 1] (the greedy minimax rule of Amsel et al. 2025, arXiv:2505.16932), which
ends in [0.73, 1.27]; smaller values grow 78-fold, with five steps 480-fold.
"""


def working_type(device: torch.device) -> torch.dtype:
    """bfloat16, as published, where the device multiplies it faster than float32; the iteration does not mind.

    A processor that could, but is held to AVX2 (core/pin.py), does not.
    """
    could = torch.cpu.get_capabilities().get("avx512_bf16", False)
    native = device.type != "cpu" or (could and torch.backends.cpu.get_cpu_capability() != "AVX2")
    return torch.bfloat16 if native else torch.float32


def orthogonalise(matrices_NRC: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, about: (N, R, C), wide or square, of any scale."""
    found_NRC = matrices_NRC / matrices_NRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for a, b, c in COEFFICIENTS[steps]:
        gram_NRR = found_NRC @ found_NRC.mT
        gram_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        found_NRC = torch.baddbmm(found_NRC, gram_NRR, found_NRC, beta=a)
    return found_NRC


class Muon(torch.optim.Optimizer):
    """Nesterov momentum (an average, as in torch.optim.Muon) whose singular values are all brought near 1.

    The step is ``lr * sqrt(max(1, rows / columns))`` times the orthogonalised momentum, which is the published scaling
    and torch's ``adjust_lr_fn="original"``; weights shrink by ``lr * weight_decay``, independent of shape.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "steps": steps})
        for parameter in (parameter for group in self.param_groups for parameter in group["params"]):
            if parameter.ndim != 2:
                raise ValueError(f"Muon: needs matrices, got a parameter of shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows, columns = parameter.shape
                    by_shape[min(rows, columns), max(rows, columns)].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Move matrices that are equally shaped, some of them perhaps transposed."""
        gradients = [parameter.grad for parameter in parameters]
        momenta = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        wide = [matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix for matrix in ahead]
        updates = orthogonalise(torch.stack(wide).to(working_type(parameters[0].device)), group["steps"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for parameter, update in zip(parameters, updates, strict=True):
            rows, columns = parameter.shape
            scale = group["lr"] * math.sqrt(max(1.0, rows / columns))
            parameter.add_((update.mT if rows > columns else update).to(parameter.dtype), alpha=-scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]
