"""Stage split: the final splits, proven free of leaks between training and evaluation."""

from types import ModuleType

from genfoundry.data.leaks import guard_splits
from genfoundry.data.validation import Run
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Dedup, Execution, Preprocess, Split
from genfoundry.stage import run_stage


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
