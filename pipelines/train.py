"""Stage train: train a model from arrays and starting weights; publish it as a self-contained folder."""

from collections.abc import Mapping

from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import Section
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.pipeline.launch import launch
from genfoundry.pipeline.stage import run_stage
from genfoundry.tracking.runs import Run
from genfoundry.training.job import Job
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
    components: Mapping[str, ModelPaths],
    run: Run,
) -> None:
    train(Job(node, paths, dataset, init, family, options, training, execution, components), run)


if __name__ == "__main__":
    run_stage(main, launch)
