"""Errors raised on purpose, each with the exit code that a scheduler may act on (docs/exit-codes.md)."""

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
