"""Run the user's own script or module in this process, as plain ``python`` would.

The script finds its own ``sys.argv``, ``sys.path[0]``, ``__main__`` and ``__file__``; standard streams are untouched
and exceptions, SystemExit included, pass through. `script_traceback` cuts the frames above the script's. Nothing is
imported here that the script might want to import first.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from tracekit.errors import UsageError


def run_script(path: str, args: Sequence[str]) -> None:
    """Run ``python path args...`` here.

    Raises:
        UsageError: there is no such file.
        BaseException: whatever the script raises, SystemExit included.
    """
    # Not runpy.run_path: under it the script would see a relative __file__ and builtins that are no module.
    # Not Path.absolute, which would take "./" out of it.
    full_path = path if path.startswith("/") else f"{Path.cwd()}/{path}"
    try:
        with io.open_code(full_path) as file:
            source = file.read()
    except OSError as error:
        raise UsageError(f"cannot open the script {path!r}: {error.strerror}") from error
    main = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", full_path)
    vars(main).update(__file__=full_path, __loader__=loader, __cached__=None, __annotations__={}, __builtins__=builtins)
    # As python does it: the directory that the file is in, not that of a link to it.
    with _as_program([path, *args], os.path.dirname(os.path.realpath(full_path))), _as_main(main):  # noqa: PTH120
        exec(compile(source, full_path, "exec", dont_inherit=True), vars(main))


def run_module(name: str, args: Sequence[str]) -> None:
    """Run ``python -m name args...`` here.

    Raises:
        UsageError: there is no such module.
        BaseException: whatever the module raises, SystemExit included.
    """
    with _as_program([name, *args], str(Path.cwd())):
        _check_module(name)
        runpy.run_module(name, run_name="__main__", alter_sys=True)


def script_traceback(error: BaseException) -> types.TracebackType | None:
    """The exception's traceback without the frames of tracekit and runpy that ran the script.

    None for an error in the script's syntax: python shows no frame for it. Of a module, python shows runpy's two frames
    first; they are left out.
    """
    entry = error.__traceback__
    inside = False
    while entry is not None:
        ours = entry.tb_frame.f_code.co_filename in _RUNNING
        if inside and not ours:
            return entry
        inside = inside or ours
        entry = entry.tb_next
    return None


_RUNNING = frozenset({__file__, runpy.__file__, "<frozen runpy>"})


def _check_module(name: str) -> None:
    """Refuse what ``python -m`` would; a package's own failing import is the script's error and passes through."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise
        spec = None
    if spec is None:
        raise UsageError(f"no module {name!r} to run, neither here nor among the installed packages")


@contextlib.contextmanager
def _as_program(argv: list[str], first_path: str) -> Iterator[None]:
    """The program's own arguments and search path.

    Both are put back after it, so that what tracekit imports later is not looked for among the user's files.
    """
    argv_before, path_before = sys.argv, list(sys.path)
    sys.argv = argv
    # With -P or PYTHONSAFEPATH python puts no directory of the program's first.
    if not sys.flags.safe_path:
        sys.path[0] = first_path
    try:
        yield
    finally:
        sys.argv = argv_before
        sys.path[:] = path_before


@contextlib.contextmanager
def _as_main(module: types.ModuleType) -> Iterator[None]:
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before
