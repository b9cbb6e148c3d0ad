"""The embedded raw data: real records that a fresh clone makes from locked packages, without network.

``digits/<label>/<index>.png``: scikit-learn's 1,797 scanned handwritten digits. ``apidocs/<package>.jsonl``: the
docstrings in the sources of four packages. The bytes depend on the packages' versions alone: not on the Python
version, the platform, zlib or the order of a folder; ``md5`` holds them to data.dvc.
"""

import ast
import csv
import gzip
import importlib.metadata
import io
import json
import os
import re
import shutil
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

from genfoundry.core.errors import DataError

PACKAGES = {"numpy": "2.4.6", "scipy": "1.17.1", "pandas": "3.1.1", "scikit-learn": "1.9.1"}
"""Packages that feed the data, as locked; a test ties these, the lock and ``EMBEDDED_MD5`` together."""

EMBEDDED_MD5 = "fadf811ef565b9b5646b4e34b4626213.dir"
"""md5 of the embedded data in data.dvc."""

MIN_CHARACTERS = 80
"""Shorter docstrings add little to the name they document."""

VARYING = re.compile(r"^numpy/distutils/|/(__config__|version|_version|_version_meson|_distributor_init)\.py$")
"""Files that a build writes, or that only some platforms or Pythons get (numpy.distutils ends at 3.11)."""

_BODIES = ("body", "handlers", "orelse", "finalbody", "cases")
"""Fields of a syntax node that hold statements; looking into expressions too takes three times as long."""

_SURROGATES = re.compile(r"[\ud800-\udfff]")


def build(target: Path) -> None:
    """Write the embedded data into the new folder ``target``.

    Raises:
        DataError: ``target`` is there already, or a package is missing, changed or of another version.
    """
    if target.exists():
        raise DataError(f"{target}: is there already; raw data are never overwritten: remove the folder to rebuild it")
    distributions = {name: _distribution(name) for name in PACKAGES}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_digits(distributions["scikit-learn"], partial / "digits")
        for name, distribution in distributions.items():
            _write_docs(distribution, partial / "apidocs" / f"{_folder(name)}.jsonl")
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise DataError(f"embedded data: package {name} is not installed; install requirements.lock") from None
    if distribution.version != PACKAGES[name] or not distribution.files:
        raise DataError(
            f"embedded data: needs {name} {PACKAGES[name]} from a wheel, found {distribution.version}; "
            "install requirements.lock"
        )
    return distribution


def _folder(name: str) -> str:
    return "sklearn" if name == "scikit-learn" else name


def _write_digits(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    """``<label>/<index>.png``, 8x8 grey; read from the package's table, since importing sklearn costs a second."""
    table = Path(str(distribution.locate_file("sklearn/datasets/data/digits.csv.gz")))
    with gzip.open(table, "rt", newline="") as file:
        for index, row in enumerate(csv.reader(file)):
            *levels, label = (int(float(cell)) for cell in row)
            pixels = bytes((level * 255 + 8) // 16 for level in levels)
            path = folder / str(label) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(grey_png(pixels, 8, 8))


def grey_png(pixels: bytes, width: int, height: int) -> bytes:
    """A grey PNG with uncompressed deflate blocks, so that its bytes don't depend on a zlib version."""
    lines = b"".join(b"\0" + pixels[row * width : (row + 1) * width] for row in range(height))
    parts = [lines[start : start + 65535] for start in range(0, len(lines), 65535)]
    blocks = b"".join(
        struct.pack("<BHH", number == len(parts) - 1, len(part), len(part) ^ 0xFFFF) + part
        for number, part in enumerate(parts)
    )
    stream = b"\x78\x01" + blocks + struct.pack(">I", zlib.adler32(lines))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", stream), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _write_docs(distribution: importlib.metadata.Distribution, target: Path) -> None:
    package = target.stem
    names = sorted(file.as_posix() for file in distribution.files or () if file.suffix == ".py")
    lines, seen = io.StringIO(), set()
    for name in names:
        if not name.startswith(f"{package}/") or VARYING.search(name):
            continue
        for qualname, text in docstrings(Path(str(distribution.locate_file(name)))):
            key, count = f"{name}:{qualname}", 2
            while key in seen:  # a property's setter, an overload, a definition in each branch of an if
                key, count = f"{name}:{qualname}~{count}", count + 1
            seen.add(key)
            lines.write(json.dumps({"id": key, "text": text}, ensure_ascii=False) + "\n")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(lines.getvalue(), encoding="utf-8", newline="\n")


def docstrings(file: Path) -> list[tuple[str, str]]:
    """(qualified name, docstring) of everything in a source file with one of 80 characters, in source order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes: DeprecationWarning or SyntaxWarning, by Python version
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, OSError) as error:
            raise DataError(f"{file}: can't be read as source ({error}); install requirements.lock afresh") from None
    return [
        (name, text)
        for name, raw in _walk(tree, "")
        if len(text := clean_docstring(raw)) >= MIN_CHARACTERS and not _SURROGATES.search(text)
    ]


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            yield name or "<module>", first.value.value
    statements = [child for field in _BODIES for child in getattr(node, field, ())]
    for child in statements:
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _walk(child, f"{name}.{child.name}".lstrip(".") if named else name)


def clean_docstring(raw: str) -> str:
    """A docstring without its indentation; written out here because inspect.cleandoc changed with Python 3.13."""
    first, *rest = raw.expandtabs().split("\n")
    margin = min((len(line) - len(line.lstrip(" ")) for line in rest if line.strip(" ")), default=sys.maxsize)
    return "\n".join([first.lstrip(" "), *(line[margin:].rstrip(" ") for line in rest)]).strip("\n")
