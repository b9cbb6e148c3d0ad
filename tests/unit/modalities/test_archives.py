"""Archives are read as a stream, and what a stranger may put into one does no harm."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from genfoundry.core.errors import DataError
from genfoundry.modalities.common import archives, tables
from genfoundry.modalities.common.archives import Limits

FILES = {"train/a.txt": b"first", "b.txt": b"second\n" * 1000}


def make(path: Path, files: dict[str, bytes] = FILES) -> Path:
    """A zip or tar of these files; the name says which."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        mode = {".tar": "w", ".tgz": "w:gz"}.get(path.suffix, f"w:{path.suffix[1:]}")
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def contents(path: Path, **limits: float) -> dict[str, bytes]:
    return {entry.name: entry.open().read() for entry in archives.entries(path, Limits(**limits)) if not entry.reason}


def reasons(path: Path, **limits: float) -> dict[str, str]:
    return {entry.name: entry.reason for entry in archives.entries(path, Limits(**limits)) if entry.reason}


ENDINGS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_gives_names_and_bytes(tmp_path: Path, ending: str) -> None:
    path = make(tmp_path / f"x.{ending}")

    assert contents(path) == FILES
    assert [entry.size for entry in archives.entries(path, Limits())] == [5, 7000]


def test_zstandard_is_read_too(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    plain = make(tmp_path / "x.tar").read_bytes()
    with pa.CompressedOutputStream(str(tmp_path / "y.tar.zst"), "zstd") as file:
        file.write(plain)

    assert contents(tmp_path / "y.tar.zst") == FILES


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../up.txt", "unsafe_name"),
        ("a/../../up.txt", "unsafe_name"),
        ("/etc/passwd", "unsafe_name"),
        ("C:\\up.txt", "unsafe_name"),
        ("..\\up.txt", "unsafe_name"),
        ("inner.zip", "nested_archive"),
        ("inner.tar.gz", "nested_archive"),
        ("inner.jsonl.gz", "nested_archive"),
    ],
)
def test_an_entry_that_leads_out_or_nests_comes_with_a_reason(
    tmp_path: Path, ending: str, name: str, reason: str
) -> None:
    path = make(tmp_path / f"x.{ending}", {name: b"x", "good.txt": b"y"})

    assert list(reasons(path).values()) == [reason]
    assert contents(path) == {"good.txt": b"y"}


def test_links_and_devices_are_no_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        info = zipfile.ZipInfo("s")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")

    assert reasons(tmp_path / "x.tar") == dict.fromkeys("shd", "no_file")
    assert reasons(tmp_path / "x.zip") == {"s": "no_file"}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    path = make(tmp_path / "x.tar", {".git/config": b"x", "__MACOSX/a.txt": b"x", "a.txt": b"y"})

    assert [entry.name for entry in archives.entries(path, Limits())] == ["a.txt"]


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_a_backslash_is_a_separator_where_no_name_has_a_slash(tmp_path: Path, ending: str) -> None:
    """Old tools of Windows write it, entries of folders too."""
    files = {"train\\cat\\": b"", "train\\cat\\a.txt": b"1", ".\\test\\b.txt": b"2", ".git\\c.txt": b"3"}
    mixed = {"train\\a.txt": b"1", "test/b.txt": b"2"}

    assert contents(make(tmp_path / f"x.{ending}", files)) == {"train/cat/a.txt": b"1", "test/b.txt": b"2"}
    assert contents(make(tmp_path / f"y.{ending}", mixed)) == {"test/b.txt": b"2"}
    assert reasons(tmp_path / f"y.{ending}") == {"train\\a.txt": "unsafe_name"}


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_a_backslash_after_a_dot_leads_nowhere_and_hides_nothing(tmp_path: Path, ending: str) -> None:
    files = {".\\cat\\0.txt": b"1", ".\\.git\\c.txt": b"2"}
    mixed = {".\\cat\\0.txt": b"1", "dog/0.txt": b"2", "__MACOSX/._0.txt": b"3"}

    assert contents(make(tmp_path / f"x.{ending}", files)) == {"cat/0.txt": b"1"}
    assert contents(make(tmp_path / f"y.{ending}", mixed)) == {"dog/0.txt": b"2"}
    assert list(reasons(tmp_path / f"y.{ending}").values()) == ["unsafe_name"]


@pytest.mark.parametrize("folder", ["", "train/"])
def test_bytes_in_names_are_no_separators_and_each_name_has_an_id(tmp_path: Path, folder: str) -> None:
    """An old tar holds names in Latin-1; their escapes hold backslashes."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name in ("d\xf6g.txt", "dog.txt"):
            info = tarfile.TarInfo(folder + name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))

    assert set(contents(tmp_path / "x.tar")) == {f"{folder}d\\xf6g.txt", f"{folder}dog.txt"}
    assert reasons(tmp_path / "x.tar") == {}
    names = ["d\udcf6g", "d\\xf6g", "d\\\\xf6g", "d\\\udcf6g", "d\\g", "d\\\\g", "dög"]
    assert len({tables.file_id(name) for name in names}) == len(names)
    assert [tables.file_id(name) for name in ("dög", "a\\b")] == ["dög", "a\\b"]


def test_a_folder_with_two_names_of_one_escape_gives_two_ids(tmp_path: Path) -> None:
    for name in (b"d\xf6g.txt", b"d\\xf6g.txt"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text("x")

    assert len({name for name, _ in tables.files(tmp_path)}) == 2


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_second_entry_of_a_name_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.txt", "1")
        archive.writestr("a.txt", "2")

    assert [entry.reason for entry in archives.entries(tmp_path / "x.zip", Limits())] == ["", "duplicate_id"]


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, ending: str) -> None:
    path = make(tmp_path / f"x.{ending}", {"zeros.txt": bytes(40 * 2**20)})

    with pytest.raises(DataError, match=r"more than 200 times its size comes out of it; raise ingest\.max_ratio"):
        contents(path)
    assert len(contents(path, max_ratio=1e9)["zeros.txt"]) == 40 * 2**20


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_entries_and_bytes_have_limits(tmp_path: Path, ending: str) -> None:
    path = make(tmp_path / f"x.{ending}", {f"{number}.txt": b"x" * 100 for number in range(20)})

    assert len(contents(path, max_entries=20)) == 20
    with pytest.raises(DataError, match="more than 19 entries"):
        contents(path, max_entries=19)
    with pytest.raises(DataError, match="more than 1999 bytes"):
        contents(path, max_unpacked=1999)


def test_a_zip_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    """The bomb of Fifield 2019 ("A better zip bomb"): many entries of the index point at one place."""
    one = make(tmp_path / "x.zip", {"0.txt": bytes(8 * 2**20)}).read_bytes()
    index = one.rindex(b"PK\x01\x02")
    end = one.rindex(b"PK\x05\x06")
    copies = 50
    directory = one[index:end] * copies
    tail = bytearray(one[end:])
    tail[8:12] = copies.to_bytes(2, "little") * 2
    tail[12:16] = len(directory).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(one[:index] + directory + tail)

    with pytest.raises(DataError, match="max_ratio"):
        contents(tmp_path / "bomb.zip")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_archive_cut_short_is_never_taken_for_whole(tmp_path: Path, ending: str, share: float) -> None:
    data = make(tmp_path / f"x.{ending}", {f"{n}.txt": bytes([n]) * 3000 for n in range(20)}).read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(data[: int(len(data) * share)])

    with pytest.raises(DataError, match=r"cut\."):
        contents(tmp_path / f"cut.{ending}")


def test_a_tar_cut_between_two_members_is_cut_short(tmp_path: Path) -> None:
    """tarfile itself takes it for whole."""
    data = make(tmp_path / "x.tar", {"a.txt": b"a" * 512, "b.txt": b"b" * 512}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:1024])

    with pytest.raises(DataError, match="its end is missing"):
        contents(tmp_path / "cut.tar")


def test_a_damaged_member_header_is_no_end(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "x.tar", {"a.txt": b"a" * 512, "b.txt": b"b" * 512}).read_bytes())
    data[1024] ^= 255
    (tmp_path / "bad.tar").write_bytes(data)

    with pytest.raises(DataError, match="its end is missing"):
        contents(tmp_path / "bad.tar")


def test_two_tars_in_one_file_are_not_half_read(tmp_path: Path) -> None:
    data = make(tmp_path / "x.tar").read_bytes()
    (tmp_path / "two.tar").write_bytes(data + data)

    with pytest.raises(DataError, match="something follows"):
        contents(tmp_path / "two.tar")


def test_a_flipped_byte_in_a_zip_is_named(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "x.zip", {"a.txt": bytes(range(256)) * 20}).read_bytes())
    data[100] ^= 1
    (tmp_path / "bad.zip").write_bytes(data)

    with pytest.raises(DataError, match=r"bad\.zip/a\.txt: damaged"):
        contents(tmp_path / "bad.zip")


def test_an_extended_header_that_fills_the_memory_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.txt")
        info.pax_headers = {"comment": "x" * (2**20 + 1)}
        archive.addfile(info)

    with pytest.raises(DataError, match="a header of"):
        contents(tmp_path / "x.tar")


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_a_compressed_file_reads_as_its_content_with_the_same_limits(tmp_path: Path, ending: str, pack: object) -> None:
    path, cut, bomb = (tmp_path / f"{name}.{ending}" for name in ("a", "cut", "bomb"))
    path.write_bytes(pack(b"line\n" * 1000))  # type: ignore[operator]
    cut.write_bytes(path.read_bytes()[:-9])
    bomb.write_bytes(pack(bytes(40 * 2**20)))  # type: ignore[operator]

    assert archives.opened(path, Limits()).read() == b"line\n" * 1000
    with pytest.raises(DataError, match="cut short"):
        archives.opened(cut, Limits()).read()
    with pytest.raises(DataError, match="max_ratio"):
        archives.opened(bomb, Limits()).read()


@pytest.mark.parametrize(
    ("name", "inner"),
    [("a.jsonl.gz", "a.jsonl"), ("a.TXT.XZ", "a.TXT"), ("a.txt", "a.txt"), ("a.tar.gz", "a.tar.gz")],
)
def test_the_bare_name_is_that_of_the_content(name: str, inner: str) -> None:
    assert archives.bare(name) == inner
