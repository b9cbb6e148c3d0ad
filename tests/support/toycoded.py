"""A toy family that is built on a frozen codec: it learns the law of the codec's latents, one normal a number."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genfoundry.config.specs import DataSpec, Section
from genfoundry.core.errors import ConfigError
from genfoundry.nn.contract import Batch, GridBatch, Latent, Loss, Model, Requests, Step

COMPONENTS = ("codec",)


class Config(Section):
    pass


def build(config: Config, spec: DataSpec, components: Mapping[str, Model]) -> "Coded":
    """Make the model, or refuse a codec without a latent space."""
    codec = components["codec"]
    if not isinstance(codec, Latent):
        raise ConfigError("model toycoded: needs a codec with a latent space, such as vae")
    return Coded(codec.encode(torch.zeros(1, spec.channels, *spec.shape))[0].shape[1])


class Coded(Model):
    """Latents are normal, each with its own mean and deviation."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.mean_Z, self.log_deviation_Z = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(latent))

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """Negative log-likelihood of the latents, in nats but for a constant."""
        assert isinstance(batch, GridBatch)
        latent_BZ = self.components["codec"].encode(batch.grid)[0]
        scaled_BZ = (latent_BZ - self.mean_Z) / self.log_deviation_Z.exp()
        return Loss((0.5 * scaled_BZ.square() + self.log_deviation_Z).sum(1).mean(), {})

    def sample(self, requests: Requests) -> Tensor:
        """Images that the codec makes of drawn latents."""
        normal_BZ = requests.normal((len(self.mean_Z),))
        return self.components["codec"].decode(self.mean_Z + self.log_deviation_Z.exp() * normal_BZ)
