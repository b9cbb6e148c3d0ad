"""One thin module per DVC stage: ``python -m pipelines.<stage> <key>``."""

import sys
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(
        f"genfoundry: needs Python 3.11 or newer, this is {sys.version.split()[0]}; run make install PYTHON=python3.11"
    )

# A queued experiment runs in a copy of the project: its own src must win over the installed one (tried).
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

try:
    import pydantic  # noqa: F401
    import ruamel.yaml  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(f"genfoundry: package {error.name!r} is not installed in {sys.executable}; run `make install`")

from genfoundry.core import pin
from genfoundry.core.errors import ConfigError

# Before numpy, which no import of genfoundry's core brings. "-m": Python looks for the stage that it is to run.
if sys.argv[:1] == ["-m"]:
    try:
        pin.start(Path.cwd())
    except ConfigError as error:
        print(f"genfoundry: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
