"""Stage report: write one page that compares all models of params.yaml."""

from pathlib import Path

from genfoundry.config.params import DatasetBlock, ModelBlock
from genfoundry.evaluation.report import write_report
from genfoundry.pipeline.stage import run_stage


def main(datasets: dict[str, DatasetBlock], models: dict[str, ModelBlock], root: Path) -> None:
    write_report(datasets, models, root)


if __name__ == "__main__":
    run_stage(main)
