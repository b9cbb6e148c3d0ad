"""Stage encode: turn the split records into memory-mapped arrays and a data spec that models are built from."""

from types import ModuleType

from genfoundry.config.sections.encode import Encode
from genfoundry.config.sections.execution import Execution
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.encode.encoding import write_arrays
from genfoundry.pipeline.stage import run_stage


def main(encode: Encode, modality: ModuleType, paths: DatasetPaths, execution: Execution) -> None:
    write_arrays(modality, encode, paths, execution)


if __name__ == "__main__":
    run_stage(main)
