"""Stage extract: compute features of the samples, or the NLL of each held-out document."""

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
