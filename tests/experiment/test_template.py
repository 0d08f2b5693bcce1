"""Arms are forked from a process that has the libraries: each its own, with its own output and exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tracekit import __version__
from tracekit.errors import ExitCode
from tracekit.experiment.template import Template

SLOW = ["--steps", "1000"]
IMPORTED = """
from pathlib import Path
from tracekit.cli.template import preload
preload(Path({folder!r}))
import torch
print(torch.cuda.is_initialized(), hasattr(torch, "emulated"))
"""


def test_each_request_is_a_process_with_its_own_end(checkpoint: Path, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with Template() as template:
        assert template.run(["--version"], checkpoint, out, err) == 0
        assert out.read_text() == f"tracekit, version {__version__}\n"
        assert template.run(["show", str(tmp_path / "nothing")], checkpoint, out, err) == ExitCode.USAGE
        assert out.read_text() == ""
        assert "tracekit: " in err.read_text()


def interrupt_once(err: Path, says: Callable[[str], bool]) -> threading.Thread:
    """Send Ctrl-C to this process when a fork has written to its stderr what is awaited."""

    def watch() -> None:
        while not (err.exists() and says(err.read_text())):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    return watcher


def test_an_interrupted_fork_closes_its_run_folder(checkpoint: Path, tmp_path: Path) -> None:
    out, err, folder = tmp_path / "out", tmp_path / "err", tmp_path / "run"
    words = ["profile", str(checkpoint), "--offload", "sequential", *SLOW, "--output", str(folder), "--no-calibration"]
    watcher = interrupt_once(err, lambda text: "step 1 done" in text)
    with Template() as template, pytest.raises(KeyboardInterrupt):
        template.run(words, checkpoint, out, err)
    watcher.join()
    assert "interrupted" in err.read_text().lower()
    assert (folder / "manifest.json").exists()


def test_a_fork_that_does_not_mind_the_interruption_is_killed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracekit.experiment.template.GRACE_S", 0.5)
    script, out, err = tmp_path / "script.py", tmp_path / "out", tmp_path / "err"
    script.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print(os.getpid(), file=sys.stderr, flush=True)\n"
        "time.sleep(1000)\n"
    )
    watcher = interrupt_once(err, lambda text: text.endswith("\n"))
    with Template() as template, pytest.raises(KeyboardInterrupt):
        template.run(["profile", "--output", str(tmp_path / "run"), str(script)], checkpoint, out, err)
    watcher.join()
    # It is nobody's child by now: whoever adopts it takes a moment.
    deadline = time.monotonic() + 10
    while is_alive(int(err.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_template_touches_no_device(checkpoint: Path) -> None:
    code = IMPORTED.format(folder=str(checkpoint))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
    assert ran.stderr == ""
