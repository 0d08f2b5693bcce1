"""What the command line imports before something is profiled, measured on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "diffusers", "accelerate", "transformers", "plotly", "pandas", "pyarrow", "viztracer", "numpy"}


def imported(*arguments: str, **environment: str) -> set[str]:
    """The top-level modules that one call of the command imports; says how long it took."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tracekit", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    print(f"tracekit {' '.join(arguments)}: {seconds:.2f} s with importtime on")  # noqa: T201 - for pytest -s
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        (),
        ("list",),
        ("profile", "--help"),
        ("show", "--help"),
        ("export", "--help"),
        ("experiment", "--help"),
        ("experiment", "paging", "--help"),
        ("open", "--help"),
        ("compare", "--help"),
        ("checkpoint", "--help"),
        ("profile", "synthetic:flux-tiny", "--offload", "nonsense"),
    ],
)
def test_nothing_heavy_is_imported_to_answer(arguments: tuple[str, ...]) -> None:
    names = imported(*arguments)
    assert "click" in names
    assert names.isdisjoint(HEAVY)


def test_help_of_all_commands_imports_none_of_them() -> None:
    assert imported("--help").isdisjoint({"msgspec", "rich", "filelock"})


def test_completion_imports_nothing_heavy() -> None:
    names = imported(
        _TRACEKIT_COMPLETE="bash_complete", COMP_WORDS="tracekit profile synthetic:flux-tiny --off", COMP_CWORD="3"
    )
    assert "click" in names
    assert names.isdisjoint(HEAVY)
