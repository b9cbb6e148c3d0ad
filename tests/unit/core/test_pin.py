"""Held to AVX2: each library says so, each that isn't is refused. In fresh processes, as libraries read once."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from genfoundry.core import pin
from genfoundry.core.errors import ConfigError
from genfoundry.core.processes import cores

ROOT = Path(__file__).resolve().parents[3]
AVX2 = "numerics: {instructions: avx2, threads: 2}\n"

here = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux",
    reason="the variables mean something on x86-64 Linux only",
)


def fresh(code: str, folder: Path, params: str = AVX2, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process without numpy, behind ``pin.start`` on a params.yaml."""
    (folder / "params.yaml").write_text(params)
    begin = "import os, sys\nfrom pathlib import Path\nfrom genfoundry.core import pin\npin.start(Path.cwd())\n"
    mine = {name: value for name, value in os.environ.items() if name not in pin.NAMES}
    return subprocess.run(
        [sys.executable, "-c", begin + code],
        cwd=folder,
        env={**mine, "PYTHONPATH": str(ROOT / "src"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@here
def test_all_libraries_say_that_they_are_held(tmp_path: Path) -> None:
    done = fresh(
        "import numpy, scipy.linalg, torch\n"
        "from genfoundry.training.muon import working_type\n"
        "pin.require('avx2')\n"
        "print(sorted(pin._held), pin.kind().split('-')[1], torch.get_num_threads())\n"
        "print(working_type(torch.device('cpu')))\n"
        "print(pin._torch() + pin._numpy())\n",
        tmp_path,
    )

    said, muon, found = done.stdout.splitlines()
    assert (said, muon) == ("['numpy', 'torch'] avx2 2", "torch.float32"), done.stderr
    for name in ("'oneDNN', 'jit:avx2'", "'torch', 'AVX2'", "'OpenBLAS', ('Haswell', 1)", "'numpy', ['X86_V3']"):
        assert name in found


@here
@pytest.mark.parametrize(
    ("library", "wrong", "named"),
    [
        (
            "numpy",
            {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "X86_V3,X86_V4"},
            ("OpenBLAS", "numpy took"),
        ),
        ("torch", {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, ("torch took", "oneDNN took")),
    ],
)
def test_what_did_not_take_hold_is_refused(
    library: str, wrong: dict[str, str], named: tuple[str, str], tmp_path: Path
) -> None:
    done = fresh(f"os.environ |= {wrong}\nimport {library}\npin.hold()\nprint('computes')\n", tmp_path)

    assert done.returncode == 1 and "computes" not in done.stdout
    assert all(name in done.stderr for name in named)


@here
def test_a_process_that_began_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pin.INSTRUCTIONS, raising=False)

    pin.require("native")
    with pytest.raises(ConfigError, match="started without it"):
        pin.require("avx2")


@here
def test_children_inherit_it_and_those_of_another_state_do_not(tmp_path: Path) -> None:
    told = "print({name: os.environ.get(name) for name in pin.NAMES})"
    inherited = {**pin.VARIABLES, pin.INSTRUCTIONS: "avx2", pin.THREADS: "2", "OMP_NUM_THREADS": "2"}

    same = fresh(told, tmp_path, AVX2, **inherited)
    other = fresh(told, tmp_path, "numerics: {}\n", **inherited)
    own = fresh(told, tmp_path, "numerics: {}\n", MKL_CBWR="COMPATIBLE")

    assert same.stdout == f"{ {name: inherited[name] for name in pin.NAMES} }\n".replace("{ ", "{").replace(" }", "}")
    assert other.stdout == f"{dict.fromkeys(pin.NAMES)}\n"
    assert "'MKL_CBWR': 'COMPATIBLE'" in own.stdout


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (AVX2, {"instructions": "avx2", "threads": 2}),
        ("format: 1\nnumerics:\n  # why\n\n  threads: 3 # of 4\n  instructions: avx2\nbases: {}\n", None),
        ("format: 1\nbases: {}\n", {}),
        ("numerics: [1]\n", {}),
        ("numerics: {\n", {}),
    ],
)
def test_the_block_is_read_without_the_rest(text: str, found: dict[str, object] | None, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)

    assert pin._asked(tmp_path / "params.yaml") == ({"threads": 3, "instructions": "avx2"} if found is None else found)
    assert pin._asked(tmp_path / "none.yaml") == {}


def test_commands_and_stages_come_without_numpy(tmp_path: Path) -> None:
    """Else the setting would come too late for it."""
    done = fresh("import genfoundry.cli\nprint('numpy' in sys.modules)", tmp_path)

    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("params", [AVX2, "numerics: {}\n", "bases: {}\n"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(params: str, tmp_path: Path) -> None:
    ask = "print(os.environ['OMP_WAIT_POLICY'])"
    mine = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "")}
    os.environ.pop("OMP_WAIT_POLICY", None)
    try:
        assert fresh(ask, tmp_path, params).stdout == "PASSIVE\n"
    finally:
        os.environ |= {name: value for name, value in mine.items() if value}
    assert fresh(ask, tmp_path, params, OMP_WAIT_POLICY="ACTIVE").stdout == "ACTIVE\n"


def test_threads_are_those_of_numerics_then_those_asked_for_then_what_is_free(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(pin.FREE, raising=False)
    monkeypatch.setenv(pin.THREADS, "2")
    assert pin.threads(7) == pin.threads(0, 4) == 2
    monkeypatch.delenv(pin.THREADS)
    assert pin.threads(7, 4) == 7
    assert pin.FREE not in os.environ and capsys.readouterr().err == ""

    free = pin.threads(0)

    assert 1 <= free <= cores()
    said = capsys.readouterr().err
    assert f"{free} CPU threads (execution.threads is 0)" in said and f"of {cores()} processors are free" in said
    # Those that it starts take what was found, and what they share is divided.
    monkeypatch.setenv(pin.FREE, "6")
    assert (pin.threads(0, 2), pin.threads(0, 9)) == (3, 1) and capsys.readouterr().err == ""
