"""Stage ingest: read the source into shards of records; unreadable records are rejected and counted."""

from pathlib import Path
from types import ModuleType

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.ingest import Ingest
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.ingest.reading import read_source
from genfoundry.pipeline.stage import run_stage


def main(ingest: Ingest, modality: ModuleType, source: Path, paths: DatasetPaths, execution: Execution) -> None:
    read_source(modality, source, ingest, paths, execution)


if __name__ == "__main__":
    run_stage(main)
