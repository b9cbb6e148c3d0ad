"""Stage deduplicate: remove exact and near-duplicates, keeping one record of each group."""

from types import ModuleType

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.execution import Execution
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.deduplicate.removal import drop_copies
from genfoundry.pipeline.stage import run_stage


def main(dedup: Dedup, modality: ModuleType, paths: DatasetPaths, execution: Execution) -> None:
    drop_copies(modality, dedup, paths, execution)


if __name__ == "__main__":
    run_stage(main)
