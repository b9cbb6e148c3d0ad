"""Atomic files and folders: publish by rename, manifest last, digests by content.

A folder's ``manifest.json`` lists size and sha256 of its files and nothing of its inputs; the folder's digest
is the sha256 of that canonical manifest. Nothing here depends on time, host or path.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.core.errors import DataError, DiskError
from genfoundry.core.processes import alive

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MANIFEST = "manifest.json"
FORMAT = 1

CHUNK = 2**18
"""Bytes hashed at once."""


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, two spaces and a final newline; NaN and infinity are refused.

    A lone surrogate, as of a file name that is no UTF-8, is written as JSON's escape of it.
    """
    text = json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of a value, as hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:  # half the time of hashlib.file_digest where files are small
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or failing disk into a DiskError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise DiskError(f"{path}: {error.strerror}; free some space (dvc gc -w) and run again") from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    """A name beside the target, so that the rename stays inside one file system; leftovers of dead processes go."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.partial"):
        pid = left.name.rsplit(".", 2)[1]
        if pid == str(os.getpid()) or not alive(int(pid)):
            _remove(left)
    return target.parent / f".{target.name}.{os.getpid()}.partial"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def publish_file(target: Path) -> Iterator[Path]:
    """A path to write to; it becomes ``target`` when the block ends well, and is removed otherwise."""
    temporary = _temporary(target)
    try:
        with disk_errors(target):
            yield temporary
            _sync(temporary)
            os.replace(temporary, target)
    finally:
        _remove(temporary)


@contextmanager
def publish_folder(target: Path, durable: bool = True) -> Iterator[Path]:
    """A folder to write to; with its manifest added it becomes ``target`` when the block ends well.

    Args:
        target: Replaced if it is there.
        durable: Wait until the disk has it; what is hashed again before it is used need not.
    """
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        with disk_errors(target):
            yield temporary
            manifest = {"format": FORMAT, "files": _files(temporary)}
            (temporary / MANIFEST).write_bytes(canonical_json(manifest))
            for name in [*manifest["files"], MANIFEST] if durable else ():
                _sync(temporary / name)
            if target.exists():
                _remove(target)
            os.replace(temporary, target)
    finally:
        _remove(temporary)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` for files in between, gone when the block ends; leftovers of dead processes go too."""
    folder = _temporary(target.with_name(f"{target.name}.work"))
    folder.mkdir()
    try:
        with disk_errors(folder):
            yield folder
    finally:
        _remove(folder)


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def folder_digest(folder: Path) -> str:
    """sha256 of a published folder's manifest.

    Raises:
        DataError: The folder was not published (it has no manifest).
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise DataError(f"{folder}: no {MANIFEST}, so it was never finished; run dvc repro")
    return file_digest(manifest)


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size (``bytes``) and ``sha256`` of each file that a published folder's manifest names, by its path in it."""
    return dict(read_json(folder / MANIFEST)["files"])


def verify_folder(folder: Path) -> str:
    """Digest of a published folder after comparing every file with the manifest.

    Raises:
        DataError: A file is missing, added or changed; all are named.
    """
    digest = folder_digest(folder)
    wanted, found = listed(folder), _files(folder)
    faults = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    faults += [f"{name} was added" for name in found.keys() - wanted.keys()]
    faults += [f"{name} was changed" for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    if faults:
        raise DataError(f"{folder}: {'; '.join(sorted(faults))}; remove the folder and run dvc repro")
    return digest


def tree_digest(path: Path) -> str:
    """sha256 over names and contents of a file or of all files below a folder, ``__pycache__`` left out."""
    if path.is_file():
        return file_digest(path)
    if (path / MANIFEST).is_file():
        return folder_digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return digest_of({file.relative_to(path).as_posix(): file_digest(file) for file in files})


def write_json(path: Path, value: Any) -> None:
    """Publish a value as canonical JSON."""
    with publish_file(path) as temporary:
        temporary.write_bytes(canonical_json(value))


def read_json(path: Path) -> Any:
    """The value of a JSON file; a clear error if it is missing or broken."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run dvc repro") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove it and run dvc repro") from None


def write_text(path: Path, text: str) -> None:
    """Publish a text file."""
    with publish_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def write_table(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet whose bytes depend on its contents alone; not atomic: use inside ``publish_*``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
    # All-null columns get no type from pandas; a reader must not care whether a label happened to occur.
    for number, column in enumerate(arrow.schema):
        if pa.types.is_null(column.type) or pa.types.is_large_string(column.type):
            arrow = arrow.set_column(number, column.name, arrow.column(number).cast(pa.string()))
        elif pa.types.is_large_binary(column.type):
            arrow = arrow.set_column(number, column.name, arrow.column(number).cast(pa.binary()))
    # Parquet also cuts pages at chunk borders, which depend on how the table was assembled.
    pq.write_table(arrow.combine_chunks(), path, compression="zstd")


def read_table(path: Path, columns: list[str] | None = None) -> "pd.DataFrame":
    """A Parquet file as a table."""
    return _arrow(path, columns).to_pandas()


def _arrow(path: Path, columns: list[str] | None) -> "pa.Table":
    import pyarrow.parquet as pq

    # ParquetFile in one thread takes half the time of pandas for a small file.
    try:
        with pq.ParquetFile(path) as file:
            if missing := {*(columns or ())} - {*file.schema_arrow.names}:
                raise DataError(f"{path}: no column {', '.join(sorted(missing))}; remove the folder and run dvc repro")
            return file.read(columns=columns, use_threads=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; run dvc repro") from None


def read_records(folder: Path, columns: list[str] | None = None) -> Iterator["pd.DataFrame"]:
    """The shards of a published folder of records, in order, one table each."""
    for shard in shards(folder):
        yield read_table(shard, columns)


def shards(folder: Path) -> list[Path]:
    """The files of a published folder of records, in order.

    Raises:
        DataError: The folder was never finished.
    """
    folder_digest(folder)
    return sorted(folder.glob("part-*.parquet"))


def pick_records(folder: Path, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Some records of a folder, by id; shards without one of them are not unpacked."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[str, dict[str, Any]] = {}
    wanted = pa.array(sorted(names), pa.string())
    for shard in shards(folder) if names else ():
        mine = pc.is_in(_arrow(shard, ["id"]).column("id"), wanted)
        if pc.any(mine).as_py():
            found.update({row["id"]: row for row in _arrow(shard, None).filter(mine).to_pandas().to_dict("records")})
    return found


def count_records(shard: Path) -> int:
    """Rows of a Parquet file, unread."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(shard).num_rows)


def record_columns(folder: Path) -> list[str]:
    """Names of the columns of a folder of records; empty without shards."""
    import pyarrow.parquet as pq

    first = min(folder.glob("part-*.parquet"), default=None)
    return list(pq.read_schema(first).names) if first else []


def read_all_records(folder: Path, columns: list[str] | None = None) -> "pd.DataFrame":
    """All records of a folder as one table."""
    import pandas as pd
    import pyarrow as pa

    tables = [_arrow(shard, columns) for shard in shards(folder)]
    if not tables:
        return pd.DataFrame(columns=columns or [])
    return pa.concat_tables(tables, promote_options="permissive").to_pandas()
