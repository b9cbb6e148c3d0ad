"""Section `numerics`: instruction set and threads, which change last digits and so are part of results' identity."""

from typing import Literal

from pydantic import Field

from genfoundry.config.specs import Section


class Numerics(Section):
    """Instruction set and threads on CPUs: they change last digits, so stages that compute depend on them."""

    instructions: Literal["native", "avx2"] = "native"
    """native: each library takes the fastest instructions of the processor. avx2: all are held to AVX2, so that every
    Intel x86-64 processor gives the same bytes; it costs up to 1.6 times the time of a training step. AMD's give
    bytes of their own; other architectures compute natively.
    """
    threads: int = Field(default=0, ge=0)
    """CPU threads of torch in each process that trains or scores; 0 leaves it to ``execution.threads``. Sums depend on
    the number, not on the cores: two threads on one core give the bytes of two on two.
    """
