"""Stage component: record which model fills a role of a component set, by its digest."""

import sys

from genfoundry.config.params import NO_COMPONENTS, load, parse
from genfoundry.config.sections.component import Component
from genfoundry.core.errors import GenfoundryError
from genfoundry.core.io import folder_digest, write_json
from genfoundry.core.paths import ComponentPaths, ModelPaths, workspace


def main(key: str) -> int:
    root = workspace()
    try:
        one = parse(Component, load(root).components[key], f"components.{key}")
        digest = "" if one.set == NO_COMPONENTS else folder_digest(ModelPaths(root, one.model).model)
        write_json(ComponentPaths(root, one.set).file(one.role), {"model": one.model, "digest": digest})
    except GenfoundryError as error:
        print(f"genfoundry: component@{key}: {error}", file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
