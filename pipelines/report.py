"""Stage report: one page that compares all models of params.yaml."""

from pathlib import Path

from genfoundry.evaluation.report import write_report
from genfoundry.settings import DatasetBlock, ModelBlock
from genfoundry.stage import run_stage


def main(datasets: dict[str, DatasetBlock], models: dict[str, ModelBlock], root: Path) -> None:
    write_report(datasets, models, root)


if __name__ == "__main__":
    run_stage(main)
