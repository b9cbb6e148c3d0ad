"""Stage extract: features of the samples, or what each held-out document costs the model."""

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.execution import Execution
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.extraction.extract import write_features
from genfoundry.pipeline.stage import run_stage
from genfoundry.tracking.runs import Run


def main(evaluation: Evaluation, paths: ModelPaths, dataset: DatasetPaths, run: Run, execution: Execution) -> None:
    write_features(evaluation, paths, dataset, run, execution)


if __name__ == "__main__":
    run_stage(main)
