"""A toy objective with a frozen teacher and a rollout: learn the images that the teacher draws."""

from collections.abc import Mapping

from genfoundry.config.specs import Section
from genfoundry.nn.contract import Batch, GridBatch, Loss, Model, Requests, Step

COMPONENTS = ("teacher",)


class Config(Section):
    weight: float = 1.0


def rollout(model: Model, batch: Batch, step: Step, components: Mapping[str, Model], config: Config) -> Batch:
    """The teacher's samples in place of the batch's images."""
    assert isinstance(batch, GridBatch)
    seeds = step.seeds(batch)
    drawn = components["teacher"].sample(Requests(seeds, batch.conditions))
    return batch._replace(grid=drawn)


def loss(model: Model, batch: Batch, step: Step, components: Mapping[str, Model], config: Config) -> Loss:
    """The family's own on the teacher's images."""
    own = model.loss("loss", batch, step)
    return Loss(config.weight * own.total, own.parts)
