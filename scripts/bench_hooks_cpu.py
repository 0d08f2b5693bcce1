#!/usr/bin/env python3
"""What one hook costs: the compiled ones, the Python ones, and none, called in turn within one process.

Each case is a call that the patches stand in for, timed by the thread's CPU time: in hot loops, and with cold caches,
where a buffer larger than the caches is walked through before every call, as a real step's own work does. What the
hooks add is the median of the differences between neighbouring rounds with and without them.

    scripts/bench_hooks_cpu.py --output reports/hooks-cpu.md [--rounds 60]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import cpu_offload
from benchlib import markdown_table, median_interval, where
from torch import nn

from tracekit.capture.hooks import VARIABLE
from tracekit.capture.recorder import Recorder
from tracekit.capture.session import Session
from tracekit.capture.sources import watch_emulated
from tracekit.device.choice import prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.device.emulated import load
from tracekit.model import ClockInfo, DeviceInfo, Manifest, OffloadInfo
from tracekit.runfolder import RunWriter
from tracekit.workload.importhook import when_imported

CALLS = 400
"""Calls of a hot round; rows wait in memory, and are dropped after each round."""
COLD_CALLS = 12
EVICT_BYTES = 96 << 20

Call = Callable[[], object]


class Nothing(nn.Module):
    """A module that does nothing: what its call costs is the call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give back what came."""
        return x


@dataclass(frozen=True)
class Case:
    """Something to call, with what to divide its time by."""

    name: str
    call: Call
    per: int = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="the report to write")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    device = resolve_device("emulated")
    prepare_device(device, None, None)
    root, cases = workload(device.torch_device)
    evict = evictor()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        sessions = {
            kind: stack.enter_context(session(kind, Path(scratch) / kind, root)) for kind in ("python", "compiled")
        }
        for case in cases:
            for cold in (False, True):
                rows.append(measure(case, sessions, options.rounds, evict if cold else None))
                print(*rows[-1], file=sys.stderr, flush=True)
    text = report(rows, describe_device(device, None), options.rounds)
    print(text)
    if options.output:
        options.output.write_text(text)
    return 0


def workload(device: str) -> tuple[nn.Module, list[Case]]:
    """One tree with every kind of module, and the cases."""
    torch.manual_seed(0)
    root = nn.ModuleDict({"nothing": Nothing(), "linear": nn.Linear(16, 16)}).eval()
    cpu_offload(root["linear"], device)
    x = torch.rand(1, 16)
    nothing, linear, dtype, remote = root["nothing"], root["linear"], x.dtype, x.to(device)
    on_device, number = torch.device(device), x[0, 0]
    return root, [
        Case("forward", lambda: nothing(x)),
        Case("Tensor.to a dtype", lambda: x.to(dtype)),
        Case("Tensor.to where it is", lambda: remote.to(on_device)),
        Case("Tensor.item on the host", lambda: number.item()),
        Case("Tensor.to the device: a copy", lambda: x.to(on_device)),
        Case("a weight of an offloaded Linear: forward, onload, copy, offload", lambda: linear(remote), per=2),
    ]


@contextlib.contextmanager
def session(kind: str, path: Path, root: nn.Module) -> Iterator[tuple[Session, RunWriter]]:
    """A paused session with the hooks of a kind, in which `root` is registered, inside a run."""
    os.environ[VARIABLE] = kind
    manifest = Manifest(
        tracekit_version="",
        created="",
        workload="",
        offload=OffloadInfo(mode=""),
        device=DeviceInfo(kind="emulated", name="", torch_device=""),
        clock=ClockInfo(monotonic_ns=0, epoch_ns=0),
    )
    writer = RunWriter.create(path, manifest)
    started = Session(Recorder(writer), when_imported)
    started.start()
    watch_emulated(started, load(), torch.get_device_module("emulated"), "none")
    started.recorder.hooks.sample_memory = None  # the emulated device's alone
    with started.bare_run(root, "net"):
        started.pause()
        try:
            yield started, writer
        finally:
            started.resume()
    started.stop()


def evictor() -> Call:
    """Push everything else out of the caches."""
    buffer = torch.zeros(EVICT_BYTES // 8, dtype=torch.int64)
    return buffer.sum


def measure(
    case: Case, sessions: dict[str, tuple[Session, RunWriter]], rounds: int, evict: Call | None
) -> list[object]:
    timer = (lambda: hot(case.call)) if evict is None else (lambda: cold(case.call, evict))
    bare: list[float] = []
    added: dict[str, list[float]] = {kind: [] for kind in sessions}
    gc.disable()
    for number in range(-2, rounds):  # the first two warm up
        without = timer() / case.per
        for kind in sorted(sessions, reverse=number % 2 == 0):
            started, writer = sessions[kind]
            started.resume()
            took = timer() / case.per
            started.pause()
            writer.flush()
            if number >= 0:
                added[kind].append(took - without)
        if number >= 0:
            bare.append(without)
    gc.enable()
    cells = [f"{mid:.2f} ({low:.2f} to {high:.2f})" for mid, low, high in map(median_interval, added.values())]
    return [case.name, "hot" if evict is None else "cold", f"{statistics.median(bare):.2f}", *cells]


def hot(call: Call) -> float:
    """Microseconds of CPU time a call in a loop."""
    start = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - start) / CALLS / 1000


def cold(call: Call, evict: Call) -> float:
    """Microseconds of CPU time a call, the median of several, each after the caches were emptied."""
    times = []
    for _ in range(COLD_CALLS):
        evict()
        start = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - start)
    return statistics.median(times) / 1000


def report(rows: list[list[object]], device: DeviceInfo, rounds: int) -> str:
    header = ["call", "caches", "without hooks, us", "Python hooks add, us", "compiled hooks add, us"]
    return f"""\
# What one hook costs

{where(device)}
Microseconds of CPU time, {rounds} rounds in turn without hooks, with the Python ones and with the compiled ones. "hot"
is a loop of {CALLS} calls; "cold" the median of {COLD_CALLS}, each after {EVICT_BYTES >> 20} MiB were read through.
What is added is the median of the rounds' differences, in brackets its 95% interval.

{markdown_table(header, rows)}

A weight of the offloaded Linear is half of its whole call: one forward, one onload and one offload span, two copies and
what of accelerate's own `Tensor.to` calls crosses nothing.
"""


if __name__ == "__main__":
    sys.exit(main())
