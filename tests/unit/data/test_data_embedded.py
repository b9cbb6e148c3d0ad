"""The embedded data: real, deterministic, never written over something."""

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genfoundry.config.pointers import md5, read_pointer
from genfoundry.core.errors import DataError
from genfoundry.data.embedded import packages as embedded


def test_the_png_is_one_and_holds_no_compressed_byte() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (300, 250)).astype(np.uint8)

    data = embedded.grey_png(levels.tobytes(), 250, 300)

    image = Image.open(io.BytesIO(data))
    image.verify()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), levels)
    assert len(data) > levels.size and zlib.decompress(data[41:-16])[1:251] == levels[0].tobytes()


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    embedded._write_digits(embedded._distribution("scikit-learn"), tmp_path)

    digits = load_digits()
    files = sorted(tmp_path.rglob("*.png"), key=lambda path: path.stem)
    assert len(files) == 1797 and [int(path.parent.name) for path in files] == digits.target.tolist()
    for index in (0, 1000, 1796):
        levels = np.asarray(Image.open(files[index]))
        np.testing.assert_array_equal(levels, (digits.images[index] * 255 + 8) // 16)


def test_docstrings_are_cleaned_named_and_long_enough(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    long = "x" * 80
    source.write_text(
        f'"""{long} module"""\n'
        f'class A:\n    """\n    {long}\n\n      deeper\t \n    """\n'
        f'    def f(self):\n        "short"\n'
        f"    if True:\n        def g(self):\n            r'''{long}\\n'''\n"
        f"try:\n    pass\nexcept OSError:\n    async def h():\n        '{long} h'\n"
    )

    assert embedded.docstrings(source) == [
        ("<module>", f"{long} module"),
        ("A", f"{long}\n\n  deeper"),
        ("A.g", f"{long}\\n"),
        ("h", f"{long} h"),
    ]


def test_md5_is_the_one_of_dvc(tmp_path: Path) -> None:
    (tmp_path / "data/b").mkdir(parents=True)
    (tmp_path / "data/b/x").write_text("1")
    (tmp_path / "data/b.txt").write_text("2")
    # Made by `dvc add data` (dvc 3.67.1).
    assert md5(tmp_path / "data") == "161b844b9767e757d9e36e74b3fe3aed.dir"


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine").write_text("precious")

    with pytest.raises(DataError, match="is there already; raw data are never overwritten"):
        embedded.build(tmp_path / "data")
    assert (tmp_path / "data/mine").read_text() == "precious"


def test_another_version_of_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.PACKAGES, "numpy", "1.0")
    with pytest.raises(DataError, match=r"needs numpy 1.0 from a wheel, found \d.*install requirements.lock"):
        embedded.build(tmp_path / "data")
    monkeypatch.setitem(embedded.PACKAGES, "no-such-package", "1.0")
    monkeypatch.delitem(embedded.PACKAGES, "numpy")
    with pytest.raises(DataError, match="no-such-package is not installed"):
        embedded.build(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_pointer_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.dvc: no such file; restore it with git"):
        read_pointer(tmp_path)
    (tmp_path / "data.dvc").write_text("outs: []\n")
    with pytest.raises(DataError, match="holds no 'outs' with an md5"):
        read_pointer(tmp_path)
    digest = hashlib.md5(b"x").hexdigest() + ".dir"
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {digest}\n  size: 1\n  path: data\n")
    assert read_pointer(tmp_path) == digest
