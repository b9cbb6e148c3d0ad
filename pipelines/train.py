"""Stage train: arrays and starting weights to a model that stands alone."""

from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import Section
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.pipeline.launch import launch
from genfoundry.pipeline.stage import run_stage
from genfoundry.tracking.runs import Run
from genfoundry.training.loop import train


def main(
    options: Section,
    training: Training,
    execution: Execution,
    node: Node,
    family: str,
    paths: ModelPaths,
    dataset: DatasetPaths,
    init: ModelPaths,
    run: Run,
) -> None:
    train(node, options, training, execution, paths, dataset, init, family, run)


if __name__ == "__main__":
    run_stage(main, launch)
