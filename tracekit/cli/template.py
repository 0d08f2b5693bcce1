"""The process that arms are forked from, for `tracekit.experiment.template`: ``python -m tracekit.cli.template``.

It imports the libraries and touches no device and no weight. It reads one request a line (JSON) from stdin, forks,
waits, and answers on stdout with a line that holds the fork's exit code.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import warnings
from pathlib import Path

import msgspec

from tracekit.experiment.template import CANNOT_FORK, Request

_PRELOADED = ("tracekit.api", "tracekit.capture.sources", "tracekit.offload.apply", "tracekit.workload.pipeline")


def serve() -> None:
    """Answer requests until there are no more. In a fork this ends as ``python -m tracekit`` does: by SystemExit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        request = msgspec.json.decode(line, type=Request)
        preload(Path(request.folder))
        process_id = os.fork()
        if process_id == 0:
            _become(request)
        _, status = os.waitpid(process_id, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def preload(folder: Path) -> None:
    """Import what profiling the pipeline in `folder` will import."""
    from tracekit.workload.classes import import_classes
    from tracekit.workload.quiet import import_libraries

    import_libraries()
    for name in _PRELOADED:
        importlib.import_module(name)
    import_classes(folder)


def _become(request: Request) -> None:
    from tracekit.device.presence import is_cuda_lost

    if is_cuda_lost():
        os._exit(CANNOT_FORK)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, descriptor in ((os.devnull, 0), (request.stdout, 1), (request.stderr, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK")
    sys.orig_argv[:] = [sys.executable, "-m", "tracekit", *request.words]
    sys.argv[:] = ["tracekit", *request.words]
    runpy.run_module("tracekit", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # Python 3.12 and later warn of forks beside threads; those here are of numpy's BLAS, which knows forks.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    serve()
