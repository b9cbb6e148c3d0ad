"""Restrict numpy, scipy and torch to AVX2 instructions, so that every Intel processor with them gives equal bytes.

Each library chooses its kernels by the processor, and another kernel sums in another order: weights, samples and scores
differ in their last digits. Environment variables, read when a library is loaded, limit the choice, so
``start`` comes before the first import of numpy; a wrong value is ignored without a word, so ``hold`` asks each library
what it took. Measured, and what stays different: docs/decisions/0008-equal-bytes.md.
"""

import ctypes
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.core.processes import cores, free_cores, processor

AVX2 = "avx2"

VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
    "MKL_CBWR": "AVX2",  # torch's products, LAPACK, FFT, exp and log; refused by MKL on processors of others than Intel
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions and LSTM
    "OPENBLAS_CORETYPE": "Haswell",  # products and LAPACK of numpy, of scipy
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",  # numpy's own loops
    # OpenBLAS takes no more threads than there are cores, so that only one is the same everywhere.
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment variables of the libraries. Case counts: ``avx2`` for MKL or ``AVX2`` for torch would be ignored."""

INSTRUCTIONS, THREADS = "GENFOUNDRY_INSTRUCTIONS", "GENFOUNDRY_THREADS"
"""Variables that say to this process and to those it starts that ``start`` has set the others."""

FREE = "GENFOUNDRY_FREE_THREADS"
"""What ``threads`` found free, for the processes that this one starts: they would find each other busy."""

NAMES = (*VARIABLES, "OMP_NUM_THREADS", INSTRUCTIONS, THREADS)
"""What a process must inherit to compute as this one does."""

CBWR_AVX2 = 10
"""MKL's number for it: the answer of ``mkl_serv_cbwr_get(-1)`` (mkl_service.h)."""

_held: set[str] = set()


def start(root: Path) -> None:
    """Set what ``numerics`` of params.yaml asks for; without effect where numpy or torch is already loaded.

    And, unless the user has said otherwise, that threads which wait for each other sleep: spinning ones made a step of
    0.6 s take 6.6 s on a busy machine. It changes no byte.

    Raises:
        ConfigError: The processor has no AVX2.
    """
    if sys.modules.keys() & {"numpy", "torch"}:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    asked = _asked(root / "params.yaml")
    if os.environ.get(INSTRUCTIONS) or os.environ.get(THREADS):
        # Inherited from a process that computes another state of the project.
        for name in NAMES:
            os.environ.pop(name, None)
    if threads := asked.get("threads"):
        os.environ |= {"OMP_NUM_THREADS": str(threads), THREADS: str(threads)}
    if asked.get("instructions") == AVX2 and _can_pin():
        if not {"avx2", "fma"} <= set(_facts().get("flags", "").split()):
            raise ConfigError(
                "params.yaml: 'numerics.instructions' is 'avx2', but this processor has no AVX2 and FMA; "
                "set it to native"
            )
        os.environ |= {**VARIABLES, INSTRUCTIONS: AVX2}


def _asked(file: Path) -> dict[str, object]:
    """The block ``numerics`` of params.yaml, read without the rest: that costs 30 ms a stage, this 1."""
    try:
        block = re.search(r"^numerics:.*\n(?:(?:[ \t#].*)?\n)*", file.read_text(encoding="utf-8") + "\n", re.M)
        found = YAML(typ="safe", pure=True).load(block[0])["numerics"] if block else {}
    except (OSError, UnicodeDecodeError, YAMLError):
        # The full reader of params.yaml reports its errors.
        found = {}
    return found if isinstance(found, dict) else {}


def require(instructions: str) -> None:
    """Raise unless this process was started with the instructions that the settings ask for.

    Args:
        instructions: ``numerics.instructions``, from the whole of params.yaml.

    Raises:
        ConfigError: ``start`` did not see the setting, or came too late.
        InfrastructureError: See ``hold``.
    """
    if instructions == AVX2 and _can_pin() and os.environ.get(INSTRUCTIONS) != AVX2:
        raise ConfigError(
            "params.yaml: 'numerics.instructions' is 'avx2', but this process was started without it; start it as "
            "`genfoundry` or `python -m pipelines.<stage>`, and write `numerics:` as a block at the left margin"
        )
    hold()


def hold() -> None:
    """Check which instructions every loaded library uses; once for each library and process.

    Raises:
        InfrastructureError: One of them uses others.
    """
    if os.environ.get(INSTRUCTIONS) != AVX2:
        return
    for library, took in (("numpy", _numpy), ("torch", _torch)):
        if library in sys.modules and library not in _held:
            if wrong := [f"{name} took {got!r}, not {wanted!r}" for name, got, wanted in took() if got != wanted]:
                raise InfrastructureError(
                    f"numerics.instructions avx2 did not take hold: {'; '.join(wrong)}. Unset variables of your own "
                    f"among {', '.join(VARIABLES)}, or set numerics.instructions to native"
                )
            _held.add(library)


def _numpy() -> list[tuple[str, object, object]]:
    from numpy._core._multiarray_umath import __cpu_features__ as features
    from threadpoolctl import threadpool_info

    used = [name for name in ("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR") if features.get(name)]
    blas = [found for found in threadpool_info() if found["internal_api"] == "openblas"]
    return [
        ("numpy", used, ["X86_V3"]),
        *(("OpenBLAS", (found["architecture"], found["num_threads"]), ("Haswell", 1)) for found in blas),
    ]


def _torch() -> list[tuple[str, object, object]]:
    import torch

    if threads := os.environ.get(THREADS):
        # Said to torch too: MKL might else take fewer than the variable says.
        torch.set_num_threads(int(threads))
    found: list[tuple[str, object, object]] = [
        ("torch", torch.backends.cpu.get_cpu_capability(), "AVX2"),
        ("oneDNN", _onednn(), "jit:avx2"),
    ]
    if _intel():
        found.append(("MKL", _mkl().mkl_serv_cbwr_get(-1), CBWR_AVX2))
    return found


def _mkl() -> ctypes.CDLL:
    """MKL, which torch has inside: the library that is loaded already, by its name."""
    return ctypes.CDLL("libtorch_cpu.so")


def _onednn() -> str:
    """The kernel that oneDNN says it convolves with, as it has no function that one could ask."""
    import torch

    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        screen = os.dup(1)
        os.dup2(said.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                # Of sixteen: torch leaves smaller batches to another library.
                torch.nn.functional.conv2d(torch.zeros(16, 1, 8, 8), torch.zeros(8, 1, 3, 3))
            ctypes.CDLL(None).fflush(None)
        finally:
            os.dup2(screen, 1)
            os.close(screen)
        said.seek(0)
        named = re.search(r"exec,cpu,convolution,([^,]+)", said.read().decode(errors="replace"))
    return named[1] if named else "no word"


def _can_pin() -> bool:
    """Whether the variables take effect here: on x86-64 Linux only."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _facts() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _intel() -> bool:
    """Whether MKL takes this for a processor of Intel's: on others it ignores MKL_CBWR=AVX2 in silence."""
    if "torch" in sys.modules:
        return bool(_mkl().mkl_serv_intel_cpu_true())
    return _facts().get("vendor_id") == "GenuineIntel"


def kind() -> str:
    """Kind of processor: equal inputs give equal bytes on equal kinds, such as ``intel-avx2`` or ``amd-avx2``.

    ``native`` in place of ``avx2`` is no promise: the same bytes come from the same model of processor only.
    """
    if not _can_pin():
        return f"{platform.machine().lower()}-native"
    others = {"AuthenticAMD": "amd", "HygonGenuine": "hygon"}
    vendor = "intel" if _intel() else others.get(_facts().get("vendor_id", ""), "other")
    return f"{vendor}-{os.environ.get(INSTRUCTIONS) or 'native'}"


def surroundings() -> str:
    """What the bytes of a result depend on besides its inputs: kind or model of processor, and the C library."""
    return f"{kind() if os.environ.get(INSTRUCTIONS) else processor()}, {' '.join(platform.libc_ver()).strip()}"


def threads(asked: int = 0, processes: int = 1) -> int:
    """CPU threads of torch in each process.

    Args:
        asked: ``execution.threads``, which counts where ``numerics`` names no number. 0: what is free now, which is
            printed; a process that this one starts takes the same.
        processes: Processes that share what is free.
    """
    if number := int(os.environ.get(THREADS) or asked):
        return number
    if FREE not in os.environ:
        free = free_cores()
        os.environ[FREE] = str(max(round(free), 1))
        print(
            f"genfoundry: {os.environ[FREE]} CPU threads (execution.threads is 0): {free:.1f} of {cores()} processors "
            "are free",
            file=sys.stderr,
        )
    return max(int(os.environ[FREE]) // processes, 1)
