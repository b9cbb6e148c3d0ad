"""Stage deduplicate: of each group of near copies, one stays."""

from types import ModuleType

from genfoundry.data.dedup import drop_copies
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Dedup, Execution
from genfoundry.stage import run_stage


def main(dedup: Dedup, modality: ModuleType, paths: DatasetPaths, execution: Execution) -> None:
    drop_copies(modality, dedup, paths, execution)


if __name__ == "__main__":
    run_stage(main)
