"""A profiled process that is killed, by a signal or for its memory, or whose disk is full, leaves a folder to read."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracekit import api
from tracekit.render.chrome import write_chrome_trace
from tracekit.runfolder.reader import KILLED

COMMAND = """
import os, resource, signal, sys
import torch
from diffusers import FluxTransformer2DModel
from tracekit.cli.main import main

forward, calls = FluxTransformer2DModel.forward, 0

def failing(self, *arguments, **options):
    global calls
    calls += 1
    if calls == {call}:
        {fault}
    return forward(self, *arguments, **options)

FluxTransformer2DModel.forward = failing
sys.exit(main(["profile", "synthetic:flux-tiny", "--offload", "sequential", "--device", "emulated", "--steps", "4",
               "--height", "32", "--width", "32", "--no-calibration", "--no-trace", "--output", sys.argv[1]]))
"""


def run(path: Path, fault: str, call: int = 3) -> subprocess.CompletedProcess[str]:
    code = COMMAND.format(call=call, fault=fault)
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)


def steps_in(path: Path) -> int:
    """The folder's steps, once its summary and its trace could be made."""
    again = api.load(path)
    assert not again.manifest.complete
    assert again.summary().h2d_bytes > 0
    assert write_chrome_trace(again.timeline, io.BytesIO()).events > 0
    return len(again.timeline.steps)


def test_kill_9_in_the_third_step_keeps_the_two_before(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert steps_in(tmp_path / "run") == 2
    assert api.load(tmp_path / "run").manifest.incomplete_reason == KILLED
    for command in ("show", "report", "export", "plan"):
        shown = subprocess.run(
            [sys.executable, "-m", "tracekit", command, str(tmp_path / "run")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr


def test_a_full_disk_is_one_line_and_keeps_what_was_written(tmp_path: Path) -> None:
    # From here on no file may grow: writing to one fails as on a full disk.
    done = run(tmp_path / "run", "resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"tracekit: no space left to write the run folder {tmp_path / 'run'}")
    assert "Traceback" not in done.stderr
    assert steps_in(tmp_path / "run") == 2


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that allows 64 MiB; the process that joins it and takes more is killed by the kernel."""
    group = Path(f"/sys/fs/cgroup/memory/tracekit-test-{os.getpid()}")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup v1 memory controller that may be written to: {error.strerror}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
        yield group
    finally:
        group.rmdir()


def test_what_the_kernel_kills_for_its_memory_keeps_the_steps_before(tmp_path: Path, memory_group: Path) -> None:
    fault = f"open('{memory_group}/cgroup.procs', 'w').write(str(os.getpid())); taken = torch.ones(1 << 28)"
    done = run(tmp_path / "run", fault)
    assert done.returncode == -signal.SIGKILL
    assert steps_in(tmp_path / "run") == 2
