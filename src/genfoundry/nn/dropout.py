"""Dropout whose mask is a function of (seed, step, example, layer), so that it is equal on any number of devices."""

from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.nn.noise import uniform


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) of float (B, ...); keyed by ``key_dropout``, else by torch's generator."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.index: Tensor | None = None
        self.keys: tuple[int, ...] = ()

    def forward(self, values: Tensor) -> Tensor:
        """Values, each set to zero with probability p and else divided by 1 - p; unchanged in eval mode."""
        if not self.training or not self.p:
            return values
        if self.index is None:
            return F.dropout(values, self.p)
        dropped = uniform(self.index, self.keys, values.shape[1:]) < self.p
        # Divided, not multiplied by a rounded inverse: in bfloat16 that would move the mean by up to 0.4 %.
        return values.masked_fill(dropped, 0) / (1 - self.p)


def key_dropout(model: nn.Module, index: Tensor | None, seed: int, step: int) -> None:
    """Key the masks of all layers by a batch's global numbers, int64 (B,); None: torch's own generator, faster."""
    for number, layer in enumerate(module for module in model.modules() if isinstance(module, Dropout)):
        layer.index, layer.keys = index, (seed, step, number + 1_000)
