"""Stage preprocess: records become canonical, and each one gets its split."""

from types import ModuleType

from genfoundry.data.cleaning import clean_records
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Execution, Preprocess, Split
from genfoundry.stage import run_stage


def main(preprocess: Preprocess, split: Split, modality: ModuleType, paths: DatasetPaths, execution: Execution) -> None:
    clean_records(modality, preprocess, split, paths, execution)


if __name__ == "__main__":
    run_stage(main)
