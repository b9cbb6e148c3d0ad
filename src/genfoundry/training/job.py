"""The inputs of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import Section
from genfoundry.core.paths import DatasetPaths, ModelPaths


@dataclass(frozen=True)
class Job:
    """One model to train: its settings, data, starting weights and output paths."""

    node: Node
    """The stage: its fingerprint names the checkpoints."""
    paths: ModelPaths
    dataset: DatasetPaths
    init: ModelPaths
    """Whose weights it starts from; the empty base for weights from the seed."""
    family: str
    options: Section
    """The family's ``Config``."""
    training: Training
    execution: Execution
    components: Mapping[str, ModelPaths] = field(default_factory=dict)
    """Frozen models by role."""
