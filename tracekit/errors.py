"""The errors tracekit raises for its user, each with the exit code that the command line gives it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What `tracekit` exits with when the profiled code itself did not decide it."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    REGRESSION = 3
    MISSING = 4
    INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


class TracekitError(Exception):
    """One line for the user: what is wrong and what to do about it.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = ExitCode.INTERNAL


class UsageError(TracekitError):
    """The input is wrong: an unknown mode, a folder that is no pipeline, a budget above the cap."""

    exit_code = ExitCode.USAGE


class MissingError(TracekitError):
    """A GPU, a compiler or a package that this call needs is not there."""

    exit_code = ExitCode.MISSING


class RunFolderError(UsageError):
    """A run folder that cannot be read: not one, an unknown schema version, damaged."""
