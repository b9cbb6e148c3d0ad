"""Stage evaluate: compute every metric with its standard error, its protocol and its baselines."""

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.scoring import write_scores
from genfoundry.pipeline.stage import run_stage


def main(evaluation: Evaluation, paths: ModelPaths, dataset: DatasetPaths) -> None:
    write_scores(evaluation, paths, dataset)


if __name__ == "__main__":
    run_stage(main)
