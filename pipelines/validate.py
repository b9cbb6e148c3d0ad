"""Stage validate: the raw records are held to their contract."""

from types import ModuleType

from genfoundry.data.validation import Run, validate
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Validation
from genfoundry.stage import run_stage


def main(validation: Validation, modality: ModuleType, paths: DatasetPaths, run: Run) -> None:
    validate(modality, validation, paths, run)


if __name__ == "__main__":
    run_stage(main)
