"""Stage split: write the final splits, checked for leaks between training and evaluation (decontamination)."""

from types import ModuleType

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.preprocess import Preprocess
from genfoundry.config.sections.split import Split
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.split.leaks import guard_splits
from genfoundry.data.validate.validation import Run
from genfoundry.pipeline.stage import run_stage


def main(
    split: Split,
    dedup: Dedup,
    preprocess: Preprocess,
    modality: ModuleType,
    paths: DatasetPaths,
    run: Run,
    execution: Execution,
) -> None:
    guard_splits(modality, split, dedup, preprocess, paths, run, execution)


if __name__ == "__main__":
    run_stage(main)
