"""A script under `tracekit profile` ends as it does under plain python: output, exit code, traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPTED = 128 + signal.SIGINT


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def left_in(folder: Path) -> list[Path]:
    """What a failed command left behind; the empty parent of run folders is no harm."""
    return [path for path in folder.rglob("*") if path.name != "runs"]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("import sys; print(sys.argv, __name__, __file__); print('noted', file=sys.stderr)", 0),
        ("import sys; sys.exit(7)", 7),
        ("raise SystemExit(-1)", 255),
        ("raise SystemExit", 0),
        ("import sys; sys.exit('a last word')", 1),
        ("def f():\n    return 1 / 0\n\nprint('before')\nf()", 1),
        ("try:\n    {}['x']\nexcept KeyError as error:\n    raise ValueError('second') from error", 1),
        ("print('never'", 1),
        ("import sys\nsys.excepthook = lambda *error: print('hook', error[2].tb_lineno)\nraise ValueError", 1),
        ("raise KeyboardInterrupt", INTERRUPTED),
        ("import click\n\nraise click.UsageError('not for us')", 1),
        ("import atexit\natexit.register(print, 'at exit')", 0),
    ],
    ids=lambda value: None if isinstance(value, int) else value.splitlines()[-1][:30],
)
def test_a_script_ends_as_under_plain_python(tmp_path: Path, source: str, code: int) -> None:
    (tmp_path / "script.py").write_text(source)
    own = ["--steps", "3", "--", "--help"]
    plain = run("script.py", *own, folder=tmp_path)
    traced = run("-m", "tracekit", "profile", "--output", "out", "script.py", *own, folder=tmp_path)
    assert traced.returncode == code
    # A plain python that Ctrl-C ends kills itself with the signal, which a shell reports as 130.
    assert plain.returncode in {code, -signal.SIGINT}
    assert traced.stdout == plain.stdout
    assert plain.stderr in traced.stderr
    assert traced.stderr.splitlines()[-1].startswith("Next: tracekit ")
    assert (tmp_path / "out" / "manifest.json").exists()


def test_a_module_is_run_as_python_runs_it(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tool.py").write_text("import sys; print(sys.argv[1:], __package__, __name__); sys.exit(5)")
    own = ["-m", "--steps", "3"]
    plain = run("-m", "package.tool", *own, folder=tmp_path)
    traced = run("-m", "tracekit", "profile", "-m", "package.tool", *own, folder=tmp_path)
    assert (traced.returncode, traced.stdout) == (plain.returncode, plain.stdout) == (5, plain.stdout)
    assert "['-m', '--steps', '3'] package __main__" in plain.stdout
    assert len(list(tmp_path.glob("runs/package.tool_script_*/manifest.json"))) == 1


@pytest.mark.parametrize("arguments", [("none.py",), ("-m", "no.such.module")])
def test_a_script_that_is_not_there_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run("-m", "tracekit", "profile", *arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tracekit: ")
    assert done.stderr.count("\n") == 1
    assert left_in(tmp_path) == []
