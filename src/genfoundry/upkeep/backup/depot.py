"""A content-addressed folder of backups, with one manifest per backup.

``objects/<2>/<sha256>`` holds each content once, so that a second backup copies only what is new;
``snapshots/<time>.json`` is written last and whole. What a kill leaves is an object that nothing names yet.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import FORMAT, disk_errors, file_digest, read_json, write_json

CHUNK = 1 << 20


@dataclass(frozen=True)
class Copied:
    """A file that was copied: digests of the bytes that were written."""

    sha256: str
    md5: str
    bytes: int


def copy_hashed(source: Path, target: Path) -> Copied:
    """Copy a file, hashing the bytes on their way."""
    sha, md5, count = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with disk_errors(target), source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(CHUNK):
            sha.update(chunk)
            md5.update(chunk)
            writer.write(chunk)
            count += len(chunk)
    return Copied(sha.hexdigest(), md5.hexdigest(), count)


class Depot:
    """A folder of backups of one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_for(self, project: str) -> None:
        """Make the folder, or make sure that it holds backups of this project.

        Raises:
            ConfigError: It holds something else.
        """
        mark = self.folder / "depot.json"
        if mark.is_file():
            found = read_json(mark).get("project")
            if found != project:
                raise ConfigError(
                    f"{self.folder}: holds backups of project {found!r}, not of {project!r}; name another"
                )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise ConfigError(f"{self.folder}: not empty, and no folder of backups; name an empty or new one")
        else:
            write_json(mark, {"format": FORMAT, "project": project})

    def object(self, sha256: str) -> Path:
        return self.folder / "objects" / sha256[:2] / sha256

    def put(self, source: Path, md5: str = "") -> Copied:
        """Take in a file.

        Args:
            source: The file.
            md5: Its name in DVC's cache, if it is an object of it.

        Raises:
            DataError: Its bytes are not those; nothing was taken in.
        """
        incoming = self.folder / "objects" / f".incoming.{os.getpid()}.partial"
        incoming.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = copy_hashed(source, incoming)
            if md5 and found.md5 != md5:
                raise DataError(f"{source}: its bytes are not what DVC's cache names it; genfoundry verify says more")
            target = self.object(found.sha256)
            target.parent.mkdir(exist_ok=True)
            os.replace(incoming, target)
        finally:
            incoming.unlink(missing_ok=True)
        return found

    def take(self, name: str, entry: dict[str, Any], target: Path) -> None:
        """Copy a file out, its bytes compared with the manifest.

        Raises:
            DataError: It is missing or damaged.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = copy_hashed(self.object(entry["sha256"]), target)
        except FileNotFoundError:
            raise DataError(f"{self.folder}: {name} is missing ({entry['sha256'][:12]}); use another backup") from None
        if found.sha256 != entry["sha256"]:
            target.unlink()
            raise DataError(f"{self.folder}: {name} is damaged ({entry['sha256'][:12]}); use another backup")

    def snapshots(self) -> list[Path]:
        """Manifests, oldest first."""
        return sorted((self.folder / "snapshots").glob("*.json"))

    def publish(self, at: datetime, facts: dict[str, Any]) -> Path:
        """Write the manifest of a backup whose files are all here."""
        if hasattr(os, "sync"):
            os.sync()  # one for all files: thousands of small ones would each wait for the disk
        path = self.folder / "snapshots" / f"{at.strftime('%Y-%m-%dT%H-%M-%SZ')}.json"
        write_json(path, facts)
        return path

    def read(self, name: str = "") -> tuple[str, dict[str, Any]]:
        """Name and contents of a manifest; the newest without a name.

        Raises:
            ConfigError: There is none.
        """
        found = {path.stem: path for path in self.snapshots()}
        if not found:
            raise ConfigError(f"{self.folder}: holds no backup; name the folder that genfoundry backup wrote")
        if name and name not in found:
            raise ConfigError(f"{self.folder}: no backup {name!r}; there are: {', '.join(found)}")
        name = name or max(found)
        return name, read_json(found[name])

    def prune(self, keep: int) -> int:
        """Delete all but the newest backups, and files that none of them names; returns how many backups."""
        old = self.snapshots()[:-keep]
        for path in old:
            path.unlink()
        if old:
            named = {entry["sha256"] for path in self.snapshots() for entry in read_json(path)["files"].values()}
            for path in self._objects():
                if path.name not in named:
                    path.unlink()
        return len(old)

    def _objects(self) -> Iterator[Path]:
        yield from (self.folder / "objects").glob("[0-9a-f][0-9a-f]/*")

    def faults(self) -> list[str]:
        """Hash every object again: lists damaged ones, and those that a manifest names but that are missing."""
        found = []
        for path in self._objects():
            if file_digest(path) != path.name:
                found.append(f"{path}: damaged")
        for snapshot in self.snapshots():
            for name, entry in read_json(snapshot)["files"].items():
                if not self.object(entry["sha256"]).is_file():
                    found.append(f"{snapshot.stem}: {name} is missing")
        return found


def free_bytes(folder: Path) -> int:
    """Free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
