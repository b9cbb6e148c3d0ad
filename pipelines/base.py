"""Stage base: a pretrained model to start from; ``scratch`` is the empty one."""

from pathlib import Path

from genfoundry.config.sections.base import Base
from genfoundry.core.io import publish_folder
from genfoundry.core.paths import ModelPaths
from genfoundry.generation.bases import import_base
from genfoundry.pipeline.stage import run_stage


def main(base: Base, paths: ModelPaths, root: Path) -> None:
    with publish_folder(paths.model) as folder:
        import_base(base, root, paths.key, folder)


if __name__ == "__main__":
    run_stage(main)
