"""Stage encode: the split records become memory-mapped arrays and a spec that models are built from."""

from types import ModuleType

from genfoundry.data.encoding import write_arrays
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Encode, Execution
from genfoundry.stage import run_stage


def main(encode: Encode, modality: ModuleType, paths: DatasetPaths, execution: Execution) -> None:
    write_arrays(modality, encode, paths, execution)


if __name__ == "__main__":
    run_stage(main)
