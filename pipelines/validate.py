"""Stage validate: check the raw records against their data contract."""

from types import ModuleType

from genfoundry.config.sections.validation import Validation
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.validate.validation import Run, validate
from genfoundry.pipeline.stage import run_stage


def main(validation: Validation, modality: ModuleType, paths: DatasetPaths, run: Run) -> None:
    validate(modality, validation, paths, run)


if __name__ == "__main__":
    run_stage(main)
