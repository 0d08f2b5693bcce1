"""How a profiled script ended: shown, and turned into an exit code, as plain ``python`` does it."""

from __future__ import annotations

import sys

from tracekit.errors import ExitCode, TracekitError
from tracekit.workload.script import script_traceback


def is_scripts_own(error: BaseException) -> bool:
    """Whether the exception is the script's, rather than tracekit's before, during or after it."""
    if isinstance(error, TracekitError):
        return False
    # Source that does not compile is the one error of a script without a frame of it.
    return script_traceback(error) is not None or isinstance(error, SyntaxError)


def report_end(error: BaseException) -> int:
    """Write what plain python writes for an exception that ended the script, and return python's exit code."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    # Python's own hook, or the one that the script set. It shows the exception's traceback whatever it is given.
    frames = script_traceback(error)
    sys.excepthook(type(error), error.with_traceback(frames), frames)
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
