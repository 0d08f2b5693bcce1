"""Building, caching and leaving: what happens around the device in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from tracekit.device.emulated import EmulatedDevice, build

REPOSITORY = Path(__file__).parents[2]


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


LOAD = "from tracekit.device.emulated import load; device = load(); import torch; device.start_log()\n"


@pytest.mark.usefixtures("device")  # built before the other processes look for it
@pytest.mark.parametrize(
    "ending",
    [
        "x = torch.ones(9, device='emulated')",
        "import builtins; builtins.keep = [torch.nn.Linear(9, 9).to('emulated'), torch.Generator('emulated')]",
        "import threading\n"
        "threading.Thread(target=lambda: [torch.ones(99).to('emulated').sum() for _ in range(9999)]).start()",
        "import atexit; atexit.register(lambda: torch.ones(9).to('emulated'))",
    ],
    ids=["tensor", "module and generator", "copying thread", "copy at exit"],
)
def test_interpreter_exits_cleanly_with_the_log_on(ending: str) -> None:
    done = run_python(LOAD + ending)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loading_is_quiet_and_needs_no_compiler_once_built(device: EmulatedDevice) -> None:
    done = run_python(LOAD, PATH="/nonexistent")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_compiler_one_line_names_what_to_install(tmp_path: Path) -> None:
    attempt = "try: resolve_device('emulated')\nexcept Exception as error: print(repr(error))"
    done = run_python(
        f"from tracekit.device.choice import resolve_device\n{attempt}",
        PATH="/nonexistent",
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert done.stdout.startswith("MissingError(")
    assert "apt-get install g++ python3-dev" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert not list(tmp_path.rglob("*")), "a check leaves nothing behind"


def test_an_unwritable_cache_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tracekit").write_text("a file where the folder belongs")
    done = run_python("from tracekit.device.emulated import load; load()", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("tracekit.errors.UsageError: cannot build the emulated device in")


def test_cache_is_keyed_by_torch_python_and_sources() -> None:
    folder = build.library_path().parent.name
    assert torch.__version__ in folder
    assert f"cpython-{sys.version_info.major}{sys.version_info.minor}" in folder


def test_failed_build_names_its_log(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *.cpp*) echo broken toolchain >&2; exit 1;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    done = run_python(
        "from tracekit.device.emulated import load; load()", CXX=str(compiler), XDG_CACHE_HOME=str(tmp_path / "cache")
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tracekit.errors.TracekitError: building the emulated device failed")
    log = Path(last.rsplit(" ", 1)[-1])
    assert "broken toolchain" in log.read_text()
    assert [path.name for path in log.parent.iterdir() if path.is_dir()] == [], "the build folder is gone"


def test_sources_compile_without_warnings(tmp_path: Path) -> None:
    """All of them as one source: most of the time goes into torch's headers."""
    together = tmp_path / "together.cpp"
    together.write_text("".join(f'#include "{path}"\n' for path in sorted(build.EXTENSION.sources.glob("*.cpp"))))
    includes = [f"-isystem{path}" for path in (*cpp_extension.include_paths(), sysconfig.get_path("include"))]
    done = subprocess.run(
        ["c++", "-std=c++20", "-fsyntax-only", "-DTORCH_EXTENSION_NAME=x", *build.EXTENSION.flags, *includes, together],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_another_added_backend_is_refused_by_name() -> None:
    done = run_python(
        "import torch; torch.utils.rename_privateuse1_backend('npu')\n"
        "from tracekit.device.emulated import load\n"
        "try: load()\nexcept Exception as e: print(repr(e))"
    )
    assert done.stdout.startswith("UsageError(\"the emulated device cannot be used beside the torch device 'npu'")
