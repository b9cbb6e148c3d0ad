"""Stage ingest: the source becomes shards of records; what can't be read is set aside and counted."""

from pathlib import Path
from types import ModuleType

from genfoundry.data.ingest import read_source
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Execution, Ingest
from genfoundry.stage import run_stage


def main(ingest: Ingest, modality: ModuleType, source: Path, paths: DatasetPaths, execution: Execution) -> None:
    read_source(modality, source, ingest, paths, execution)


if __name__ == "__main__":
    run_stage(main)
