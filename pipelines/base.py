"""Stage base: a pretrained model to start from; ``scratch`` is the empty one."""

from pathlib import Path

from genfoundry.config.sections.base import Base
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import canonical_json, publish_folder
from genfoundry.core.paths import ModelPaths
from genfoundry.generation.modelfile import copy_model, load_model
from genfoundry.pipeline.stage import run_stage


def main(base: Base, paths: ModelPaths, root: Path) -> None:
    source = root / base.path
    if base.path and not source.is_dir():
        raise ConfigError(
            f"bases.{paths.key}.path is {base.path!r}: no such folder; name a model/ folder of genfoundry"
        )
    with publish_folder(paths.model) as folder:
        if base.path:
            load_model(source)
            copy_model(source, folder)
        else:
            (folder / "base.json").write_bytes(canonical_json({"empty": True}))


if __name__ == "__main__":
    run_stage(main)
