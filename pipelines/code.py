"""Stage code: write a digest of the modules each stage imports, so that editing a comment re-runs nothing."""

import sys

from genfoundry.config.code import write_code
from genfoundry.core.errors import GenfoundryError
from genfoundry.core.paths import workspace


def main() -> int:
    try:
        write_code(workspace())
    except GenfoundryError as error:
        print(f"genfoundry: code: {error}", file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
