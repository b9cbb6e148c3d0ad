"""Locate published weights: a file, a URL, a folder or a package; the sha256 is checked before use.

Nothing is fetched but an address that the settings name; no code of others is run.
"""

import http.client
import importlib.util
import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import Field
from torch import nn

from genfoundry.config.specs import Section
from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import file_digest, publish_file
from genfoundry.evaluation.networks import require
from genfoundry.evaluation.networks._contract import Weights

TIMEOUT_S = 60
CHUNK = 2**20


class Config(Section):
    """Where published weights lie."""

    weights: str
    """File, relative to the project, or an http(s) address of one."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """Expected sha256 of the file; empty takes the published one where it is known, else accepts any."""


class Named(Protocol):
    """Settings of weights that lie somewhere."""

    weights: str
    sha256: str


def fetch(address: str, sha256: str, cache: Path) -> Path:
    """A file of the cache, downloaded unless it is there; it never holds a file of another digest.

    Raises:
        DataError: What came is not what ``sha256`` names.
        InfrastructureError: The address can't be reached.
    """
    target = cache / f"{sha256[:16]}-{address.rpartition('/')[2]}"
    if target.is_file() and file_digest(target) == sha256:
        return target
    print(f"fetching {address}", flush=True)
    with publish_file(target) as temporary:
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as source, temporary.open("wb") as file:
                while chunk := source.read(CHUNK):
                    file.write(chunk)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise InfrastructureError(
                f"{address}: {error}; fetch the file by hand and name its path under reference.networks"
            ) from None
        _same(address, file_digest(temporary), sha256)
    return target


def _same(where: object, found: str, wanted: str) -> None:
    if found != wanted:
        raise DataError(
            f"{where}: sha256 is {found[:12]}, wanted is {wanted[:12]}; it is another file or damaged: get the "
            "right one, or correct sha256 under reference.networks"
        )


def file(name: str, config: Named, root: Path, cache: Path, published: str = "") -> Weights:
    """A file of weights, or what an address answers.

    Args:
        name: Of the network, for errors.
        config: Path, relative to ``root``, or address, and digest.
        root: The workspace.
        cache: Folder for what is downloaded.
        published: sha256 where the settings name none; empty accepts any.

    Raises:
        ConfigError: There is no such file, or no such kind of address.
        DataError: Another digest.
        InfrastructureError: The address can't be reached.
    """
    where, sha256 = (
        f"params.yaml: 'reference.networks.{name}.weights' is {config.weights!r}",
        config.sha256 or published,
    )
    if "://" in config.weights:
        if not config.weights.startswith(("https://", "http://", "file://")):
            raise ConfigError(f"{where}: {name} takes an http(s) address or a path")
        if not sha256:
            raise ConfigError(f"{where}: an address needs the sha256 of its file beside it")
        return Weights(fetch(config.weights, sha256, cache), sha256)
    path = root / config.weights
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file {path}; name a file")
    digest = file_digest(path)
    _same(path, digest, sha256 or digest)
    return Weights(path, digest)


def folder(name: str, config: Named, root: Path) -> Weights:
    """A folder of a transformers model: model.safetensors and config.json.

    Raises:
        ConfigError: There is none.
        DataError: Another digest.
    """
    where = f"params.yaml: 'reference.networks.{name}.weights' is {config.weights!r}"
    if "://" in config.weights:
        raise ConfigError(f"{where}: {name} takes a local folder")
    path = root / config.weights
    files = [path / "model.safetensors", path / "config.json"]
    for each in files:
        if not each.is_file():
            raise ConfigError(f"{where}: there is no file {each}; name a folder with model.safetensors and config.json")
    digest = file_digest(files[0])
    _same(files[0], digest, config.sha256 or digest)
    return Weights(path, digest, file_digest(files[1]))


def packaged(name: str, package: str, file: str, sha256: str, extra: str) -> Weights:
    """A file inside an installed package, located without running the package's code.

    Raises:
        ConfigError: The package is not installed.
        DataError: Another digest.
    """
    require(name, package, extra)
    found = importlib.util.find_spec(package)
    assert found is not None
    path = Path(next(iter(found.submodule_search_locations or ()))) / file
    if not path.is_file():
        raise ConfigError(f"reference.networks.{name}: there is no file {path}; install {package} anew")
    _same(path, file_digest(path), sha256)
    return Weights(path, sha256)


def fill(network: nn.Module, weights: Path, what: str) -> None:
    """Put the tensors of a ``.pth`` file into a network made on the device ``meta``: nothing in it is executed.

    Args:
        network: Whose tensors have the file's names.
        weights: File, its digest checked.
        what: The network, for errors.

    Raises:
        DataError: The file holds other tensors.
    """
    try:
        state: dict[str, Any] = torch.load(weights, map_location="cpu", weights_only=True)
        # Older copies of published files leave out the counters of batch normalisation, which nothing reads.
        state |= {
            name: torch.zeros((), dtype=torch.int64)
            for name in network.state_dict()
            if name.endswith("num_batches_tracked") and name not in state
        }
        network.load_state_dict(state, assign=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, TypeError, AttributeError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{weights}: not the weights of {what} ({first})") from None
