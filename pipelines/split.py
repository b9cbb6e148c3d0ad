"""Stage split: the final splits, proven free of leaks between training and evaluation."""

from types import ModuleType

from genfoundry.data.leaks import guard_splits
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Dedup, Split
from genfoundry.stage import run_stage


def main(split: Split, dedup: Dedup, modality: ModuleType, paths: DatasetPaths) -> None:
    guard_splits(modality, split, dedup, paths)


if __name__ == "__main__":
    run_stage(main)
