"""Read files inside archives and compressed files as streams, without unpacking to disk.

Archives are untrusted input: unpacked bytes are counted against limits while they are read, and an entry that is a
link, a nested archive or has a path outside the archive is returned with a reason instead of its bytes.
"""

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from pydantic import Field

from genfoundry.config.sections.ingest import Ingest
from genfoundry.config.specs import Section
from genfoundry.core.errors import DataError
from genfoundry.modalities.common.layout import layout, layout_of
from genfoundry.modalities.common.tables import Part, bare, file_id, files, is_archive

FREE = 16 * 2**20
"""Bytes that may come out before the ratio counts: a small file of blanks is no bomb."""

HEADER = 2**20
"""Longest extended header of a tar member, which is held whole; real ones are a few hundred bytes."""

BLOCK = 2**16
"""Bytes read at once."""


class Limits(Section):
    """Limits on what may come out of an archive or a compressed file; a modality's ``Ingest`` inherits these fields."""

    max_entries: int = Field(default=1_000_000, ge=1)
    """Entries of an archive; the index of a zip file is held in memory, about 700 bytes an entry."""
    max_unpacked: int = Field(default=2**40, ge=1)
    """Bytes that may come out of one archive or compressed file."""
    max_ratio: float = Field(default=200.0, ge=1)
    """Bytes that come out for each byte on disk; text packs to a third or a tenth, a bomb to a thousandth."""


class Files(Ingest, Limits):
    """How the files of a source are found, in folders and in archives."""


class Entry(NamedTuple):
    """A file inside an archive, or why it is not to be read."""

    name: str
    """Path inside the archive in posix form."""
    size: int
    """Bytes unpacked, as its header says; no more than that are read."""
    open: Callable[[], BinaryIO]
    """Its bytes as a buffered stream; of a tar file only until the next entry is asked for."""
    reason: str = ""
    detail: str = ""


class Found(NamedTuple):
    """A file of a source, wherever it lies, or why it is not to be read."""

    name: str
    """Path inside the source, through archives: ``a.zip/b/c.txt``."""
    split: str | None
    """Given by a folder, an archive or the file's own name (see ``layout``)."""
    label: str | None
    """The last of its folders that names neither a split nor an archive."""
    open: Callable[[], BinaryIO]
    """Its unpacked bytes as a buffered stream."""
    path: Path | None = None
    """Where it lies, if not in an archive."""
    reason: str = ""
    detail: str = ""

    @property
    def ending(self) -> str:
        """The end of its name, in small letters and without compression: ``.jsonl`` of ``A.JSONL.gz``."""
        return PurePosixPath(bare(self.name)).suffix.lower()


def members(source: Path | Part, config: Files) -> Iterator[Found]:
    """Every file of a source in a fixed order: of a folder by name, of an archive as they stand in it.

    An archive is read twice, since its splits are known once all its names are.

    Raises:
        DataError: The source is missing or holds no file; an archive is damaged or exceeds a limit; splits can't be
            told from the names of folders.
    """
    outer = layout_of(source, config)
    for name, path in files(source):
        split, label = outer.split(name), outer.label(name)
        if not is_archive(name):
            yield Found(name, split, label, partial(opened, path, config), path)
            continue
        # Names alone: an entry holds its header.
        listed = [(entry.name, entry.reason) for entry in _listed(path, config, False)]
        if windows := _by_windows(entry for entry, _ in listed):
            listed = [(entry.name, entry.reason) for entry in _listed(path, config, True)]
        inner = layout((file_id(entry) for entry, reason in listed if not reason), config, name)
        for entry in entries(path, config, windows):
            own = inner.split(entry.name)
            if split and own and own != split:
                raise DataError(
                    f"{name}: its name gives split {split}, but {entry.name} in it is of split {own}; rename one"
                )
            found = inner.label(entry.name) or label
            yield Found(f"{name}/{entry.name}", split or own, found, entry.open, None, entry.reason, entry.detail)


def entries(path: Path, limits: Limits, windows: bool | None = None) -> Iterator[Entry]:
    r"""Every file of an archive in the order it stands there, folders and hidden files left out.

    Args:
        path: The archive.
        limits: What may come out of it.
        windows: Whether ``\`` separates folders; None finds out, for which the archive is read once more.

    Raises:
        DataError: The archive is damaged or cut short, or exceeds a limit.
    """
    if windows is None:
        windows = _by_windows(entry.name for entry in _listed(path, limits, False))
    for entry in _listed(path, limits, windows):
        yield entry._replace(name=file_id(entry.name))


def _listed(path: Path, limits: Limits, windows: bool) -> Iterator[Entry]:
    """The entries under the names that the archive holds, bytes that are no UTF-8 as surrogates."""
    found = _zipped(path, limits) if path.name.lower().endswith(".zip") else _tarred(path, limits)
    seen: set[str] = set()
    for number, entry in enumerate(found, 1):
        if number > limits.max_entries:
            raise DataError(_entries(path, limits))
        name = entry.name.replace("\\", "/") if windows else entry.name
        if name.endswith("/"):
            continue
        entry = entry._replace(name=_straight(name))
        parts = PurePosixPath(entry.name).parts
        if "__MACOSX" in parts or any(part.startswith(".") and not part.startswith(("..", ".\\")) for part in parts):
            continue
        reason = _fault(entry, seen)
        seen.add(entry.name)
        yield entry._replace(reason=reason[0], detail=reason[1]) if reason else entry


def _by_windows(names: Iterable[str]) -> bool:
    r"""Whether names have ``\`` as separator: old tools of Windows write it, against the standard, and no ``/``."""
    names = list(names)
    return any("\\" in name for name in names) and not any("/" in name for name in names)


def _straight(name: str) -> str:
    """A name without ``.`` and empty folders; what leads out of the archive stays."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/" * name.startswith("/") + "/".join(parts)


def opened(path: Path, limits: Limits) -> BinaryIO:
    """The bytes of a file as a buffered stream, unpacked on the way where its name says that it is compressed.

    Reading raises DataError where the file is damaged, cut short, or exceeds a limit.
    """
    if bare(path.name) == path.name:
        return path.open("rb")
    return _unpacked(path, limits)


def _entries(path: Path, limits: Limits) -> str:
    return f"{path.name}: more than {limits.max_entries} entries; raise ingest.max_entries if it is no bomb"


def _fault(entry: Entry, seen: set[str]) -> tuple[str, str] | None:
    """(reason, detail) for an entry that is not to be read."""
    parts = entry.name.replace("\\", "/").split("/")
    if entry.name.startswith(("/", "\\")) or ".." in parts or parts[0].endswith(":"):
        return "unsafe_name", "an absolute path or '..': the name leads out of the archive"
    if "\\" in entry.name:
        return "unsafe_name", "a backslash, beside names with /: no separator can be told; pack it again with / alone"
    if entry.reason:
        return entry.reason, entry.detail
    if is_archive(entry.name) or bare(entry.name) != entry.name:
        return "nested_archive", "an archive or compressed file inside an archive; unpack the outer one"
    if entry.name in seen:
        return "duplicate_id", "the archive holds two entries of that name; the first one is taken"
    return None


# ------------------------------------------------------------------------------------------------ zip
def _zipped(path: Path, limits: Limits) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path.name}: can't be read as zip ({error}); fetch or pack it again") from None
    with archive:
        infos = archive.infolist()
        if len(infos) > limits.max_entries:
            raise DataError(_entries(path, limits))
        _within(path, sum(info.file_size for info in infos), limits)
        for info in infos:
            if not info.is_dir():
                yield Entry(info.filename, info.file_size, _opener(archive, info, path), *_zip_fault(info))


def _zip_fault(info: zipfile.ZipInfo) -> tuple[str, str]:
    if info.flag_bits & 1:
        return "encrypted", "the entry needs a password; pack it without one"
    kind = info.external_attr >> 28
    if kind and kind not in (0o10, 0o04):
        return "no_file", "a link or a device, not a file"
    return "", ""


def _opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Callable[[], BinaryIO]:
    def open_entry() -> BinaryIO:
        name = f"{path.name}/{file_id(info.filename)}"
        try:
            return io.BufferedReader(_Guard(archive.open(info), name))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
            raise DataError(f"{name}: can't be unpacked ({error}); fetch or pack it again") from None

    return open_entry


# ------------------------------------------------------------------------------------------------ tar
def _tarred(path: Path, limits: Limits) -> Iterator[Entry]:
    ended = False

    class Header(tarfile.TarInfo):
        """Sees each block that should be a header: tarfile takes a broken one for the end, without a word."""

        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> "Header":
            nonlocal ended
            ended = len(buf) == tarfile.BLOCKSIZE and not any(buf)
            header = super().frombuf(buf, encoding, errors)
            if header.type in _EXTENDED and header.size > HEADER:
                raise DataError(f"{path.name}: a header of {header.size} bytes, at most {HEADER}; pack it again")
            return header

    try:
        with (
            _unpacked(path, limits) as file,
            tarfile.open(fileobj=file, mode="r|", tarinfo=Header, errors="surrogateescape") as archive,
        ):
            for member in archive:
                # Else every member's header stays in memory.
                archive.members = []
                if member.isdir():
                    continue
                name = member.name
                if not member.isreg() or member.issparse():
                    yield Entry(name, 0, io.BytesIO, "no_file", "a link, a device or a sparse file, not a file")
                else:
                    yield Entry(name, member.size, _member(archive, member, f"{path.name}/{file_id(name)}"))
            if not ended:
                raise DataError(f"{path.name}: cut short or damaged, its end is missing; fetch or pack it again")
            rest: Any = archive.fileobj
            while block := rest.read(BLOCK):
                if any(block):
                    raise DataError(f"{path.name}: something follows the archive's end; pack it as one archive")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path.name}: can't be read as tar ({error}); fetch or pack it again") from None


_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Callable[[], BinaryIO]:
    def open_entry() -> BinaryIO:
        file = archive.extractfile(member)
        assert file is not None
        return io.BufferedReader(_Guard(file, name))

    return open_entry


# ------------------------------------------------------------------------------------------------ streams
def _unpacked(path: Path, limits: Limits) -> BinaryIO:
    name = path.name.lower()
    file: Any  # The context manager closes it.
    if name.endswith((".gz", ".tgz")):
        import gzip

        file = gzip.open(path)  # noqa: SIM115
    elif name.endswith((".bz2", ".tbz2")):
        import bz2

        file = bz2.open(path)  # noqa: SIM115
    elif name.endswith((".xz", ".txz")):
        file = lzma.open(path)  # noqa: SIM115
    elif name.endswith(".zst"):
        import pyarrow as pa

        file = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    else:
        file = path.open("rb")
    return io.BufferedReader(_Guard(file, path.name, lambda size: _within(path, size, limits)), BLOCK)


def _within(path: Path, size: int, limits: Limits) -> None:
    """Raise DataError if a file unpacks to more bytes than the limits allow."""
    if size > limits.max_unpacked:
        what, setting = f"more than {limits.max_unpacked} bytes come", "max_unpacked"
    elif size > FREE and size > limits.max_ratio * path.stat().st_size:
        what, setting = f"more than {limits.max_ratio:g} times its size comes", "max_ratio"
    else:
        return
    raise DataError(f"{path.name}: {what} out of it; raise ingest.{setting} if it is no bomb")


class _Guard(io.RawIOBase):
    """A stream that counts what it gives, and says which file it is that can't be read."""

    def __init__(self, file: Any, name: str, check: Callable[[int], None] = lambda size: None) -> None:
        self.file, self.name, self.check, self.count = file, name, check, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.file.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise DataError(f"{self.name}: damaged or cut short ({error}); fetch or pack it again") from None
        self.count += len(data)
        self.check(self.count)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()
