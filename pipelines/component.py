"""Stage component: record which model fills a role of a component set, by its digest."""

from pathlib import Path

from genfoundry.config.params import NO_COMPONENTS
from genfoundry.config.sections.component import Component
from genfoundry.core.io import folder_digest, write_json
from genfoundry.core.paths import ComponentPaths, ModelPaths
from genfoundry.pipeline.stage import run_stage


def main(component: Component, root: Path) -> None:
    digest = "" if component.set == NO_COMPONENTS else folder_digest(ModelPaths(root, component.model).model)
    file = ComponentPaths(root, component.set).file(component.role)
    write_json(file, {"model": component.model, "digest": digest})


if __name__ == "__main__":
    run_stage(main)
