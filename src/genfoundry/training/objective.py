"""The objective of a run: the family's own losses, or a file of ``objectives/``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import nn

from genfoundry.config.params import choose_objective
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import DataSpec, Section
from genfoundry.core.errors import ConfigError
from genfoundry.core.paths import ModelPaths
from genfoundry.generation.modelfile import load_model
from genfoundry.nn.contract import Batch, Loss, Model, Step


@dataclass
class Objective:
    """The losses of a model, each with the parameters that it moves."""

    model: Model
    part: ModuleType | None = None
    """The file under ``objectives/``; None for the family's own losses."""
    config: Section | None = None
    components: Mapping[str, Model] = field(default_factory=dict)
    """Frozen models by role, in eval mode."""

    def losses(self) -> dict[str, list[nn.Parameter]]:
        """Names of the losses, in the order they step, and the parameters of each that are not frozen."""
        named = {"loss": self.model.parameters()} if self.part else self.model.losses()
        return {name: [one for one in mine if one.requires_grad] for name, mine in named.items()}

    @property
    def augments(self) -> bool:
        """True where the loss changes its images itself."""
        return self.part is None and self.model.augments

    def prepare(self, batch: Batch, step: Step) -> Batch:
        """The batch that a step learns from: the given one, or what the objective's ``rollout`` makes of it."""
        if self.part is None or not hasattr(self.part, "rollout"):
            return batch
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                made: Batch = self.part.rollout(self.model, batch, step, self.components, self.config)
        finally:
            self.model.train(training)
        return made

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """One of ``losses`` on a batch."""
        if self.part is None:
            return self.model.loss(name, batch, step)
        found: Loss = self.part.loss(self.model, batch, step, self.components, self.config)
        return found

    def to(self, device: torch.device) -> None:
        """Move the components where the model is."""
        for component in self.components.values():
            component.to(device)


def load_components(given: Mapping[str, ModelPaths], device: str = "cpu") -> dict[str, Model]:
    """Frozen models by role, in eval mode."""
    return {role: load_model(paths.model, device).model.requires_grad_(False) for role, paths in sorted(given.items())}


def make_objective(
    model: Model, spec: DataSpec, training: Training, key: str, components: Mapping[str, Model]
) -> Objective:
    """The objective that the settings name, after it has checked model and data.

    Raises:
        ConfigError: The objective does not fit the family or the data.
    """
    chosen = choose_objective(training.objective, key)
    if chosen is None:
        objective = Objective(model)
    else:
        part, config = chosen
        mine = {role: components[role] for role in getattr(part, "COMPONENTS", ())}
        if hasattr(part, "check"):
            part.check(model, spec, mine, config)
        objective = Objective(model, part, config, mine)
    if not any(objective.losses().values()):
        raise ConfigError(f"models.{key}: every parameter is frozen, so there is nothing to train")
    return objective
