"""Fork arms from a process that has imported the libraries and touched no device and no weight.

Importing torch, diffusers and transformers takes longer than many an arm. What is forked from here is fresh in all that
arms differ in: no device context, no kernel loaded, no weight mapped, no allocator used. Where a fork cannot work, the
arm's process is started anew: `tracekit.experiment.process` does that.

The process itself is the program ``tracekit.cli.template``.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

CANNOT_FORK = 86
"""Exit code of a fork in which CUDA cannot be used, as the template itself had touched it."""
GRACE_S = 10
"""How long an interrupted arm may take to close its run folder."""


class Request(msgspec.Struct):
    """Run ``tracekit WORDS`` with these files as its output, the classes of the pipeline in `folder` imported first."""

    words: list[str]
    folder: str
    stdout: str
    stderr: str


class Template:
    """The parent's end: a context in which `run` forks. The process is started by the first call."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Template:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def run(self, words: Sequence[str], folder: Path, stdout: Path, stderr: Path) -> int | None:
        """Run ``tracekit WORDS`` in a fork; its exit code (negative: the signal), or None where forks cannot work.

        When this process is interrupted, so is the fork; it is waited for, and killed if that takes too long.
        """
        process = self._process = self._process or _start()
        request = Request(list(words), str(folder), str(stdout), str(stderr))
        try:
            return _ask(process, request)
        except BaseException:
            # To all of its session: the template itself ignores it.
            os.killpg(process.pid, signal.SIGINT)
            if not _answers_within(process, GRACE_S):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _start() -> subprocess.Popen[bytes]:
    # Asked through NVML, the number of GPUs leaves CUDA untouched: libraries ask for it while they are imported.
    environment = os.environ | {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    # A session of its own: Ctrl-C comes to an arm through us alone, and once.
    return subprocess.Popen(
        [sys.executable, "-m", "tracekit.cli.template"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def _ask(process: subprocess.Popen[bytes], request: Request) -> int | None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(request) + b"\n")
    process.stdin.flush()
    return _answer(process)


def _answers_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], seconds)
    return bool(readable)


def _answer(process: subprocess.Popen[bytes]) -> int | None:
    assert process.stdout is not None
    line = process.stdout.readline()
    return int(line) if line and int(line) != CANNOT_FORK else None
