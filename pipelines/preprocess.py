"""Stage preprocess: clean records, drop those that break a rule, and assign each one to a split."""

from types import ModuleType

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.preprocess import Preprocess
from genfoundry.config.sections.split import Split
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.preprocess.cleaning import clean_records
from genfoundry.pipeline.stage import run_stage


def main(preprocess: Preprocess, split: Split, modality: ModuleType, paths: DatasetPaths, execution: Execution) -> None:
    clean_records(modality, preprocess, split, paths, execution)


if __name__ == "__main__":
    run_stage(main)
