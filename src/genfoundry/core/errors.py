"""Errors raised on purpose, each with the exit code that a scheduler may act on (docs/exit-codes.md)."""

import re
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command and stage."""

    OK = 0
    ERROR = 1
    """Unexpected error; the traceback shows where."""
    USAGE = 2
    NO_OP = 10
    REJECTED = 11
    BUSY = 12
    BAD_DATA = 13
    DIVERGED = 14
    DISK = 15
    INFRASTRUCTURE = 16
    DIFFERENT = 17
    PREEMPTED = 143


class GenfoundryError(Exception):
    """An error with a message for a person: where, what with its value, what to do."""

    exit_code = Exit.INFRASTRUCTURE

    def __init__(self, *args: object) -> None:
        # Python holds bytes of a file name that are no UTF-8 as surrogates, which no report or store takes.
        super().__init__(*(a.encode(errors="backslashreplace").decode() if isinstance(a, str) else a for a in args))


class ConfigError(GenfoundryError):
    """Settings, a command line or the installation are wrong."""

    exit_code = Exit.USAGE


class DataError(GenfoundryError):
    """Data break a contract."""

    exit_code = Exit.BAD_DATA


class TooFewError(DataError):
    """Too few data to measure this metric; others are unaffected."""


class BusyError(GenfoundryError):
    """Somebody else holds the lock."""

    exit_code = Exit.BUSY


class DivergedError(GenfoundryError):
    """Training diverged: a loss or gradient is not finite."""

    exit_code = Exit.DIVERGED


class DiskError(GenfoundryError):
    """No space left, or the disk refuses."""

    exit_code = Exit.DISK


class InfrastructureError(GenfoundryError):
    """The machine, the tracking store or the cache fails."""

    exit_code = Exit.INFRASTRUCTURE


class PreemptedError(GenfoundryError):
    """Asked to stop (SIGTERM or SIGINT); the state was saved, a rerun goes on from it."""

    exit_code = Exit.PREEMPTED


_MARKED = re.compile(r"(ERROR|error|fatal|fault): ")
"""How an error of DVC, of git or of `genfoundry check` begins."""


def error_line(lines: Iterable[str]) -> str:
    """What went wrong, from a program's output: the first line that is marked as an error, with how many follow.

    Without one: the last that speaks of an error, as a traceback's does, or else the last that isn't empty.
    """
    said = [line.strip() for line in lines if line.strip()]
    if marked := [line for line in said if _MARKED.match(line)]:
        more = len(set(marked)) - 1
        return marked[0] + (f" (and {more} more)" if more else "")
    return ([line for line in said if "error" in line.lower()] or said or ["it said nothing"])[-1]
