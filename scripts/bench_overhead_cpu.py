#!/usr/bin/env python3
"""What profilers cost on a CPU: tracekit, torch.profiler twice, VizTracer, on the same pipeline in the same process.

The pipeline runs in sequential offload on the emulated device. Each block holds a pair of calls for every profiler, in
random order: one call with it and one without, again in random order, so that drift and neighbours on the machine
touch both. A pair gives one ratio; their median is reported with its 95% interval. "nothing" is paired with itself,
too: its row is the noise. torch computes in one thread, because threads that wait for each other burn CPU time.

    scripts/bench_overhead_cpu.py --output reports/overhead-cpu.md [--blocks 21]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchlib import markdown_table, median_interval, where
from torch.profiler import ProfilerActivity
from viztracer import VizTracer

import tracekit
from tracekit.device.choice import prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.units import format_bytes
from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.pipeline import find_folder, load_pipeline

Profiler = Callable[[Any, Path], AbstractContextManager[object]]
"""A profiler around the body, which ends with its files in the folder; it gets the pipeline, too."""
StepEnded = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""diffusers' callback_on_step_end."""
Call = Callable[[StepEnded], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of the steps after the first, of the pipeline's call, and of it with the profiler's start, end, files."""

    steps_cpu: float
    call_cpu: float
    call_wall: float
    whole_cpu: float
    whole_wall: float


@dataclass(frozen=True)
class Pair:
    """Two neighbouring calls, one with the profiler, and what the profiler left on disk."""

    without: Timing
    profiled: Timing
    size_bytes: int

    def ratio(self, quantity: str) -> float:
        """With the profiler over without. Without one there is no start and end: the call is the whole."""
        return float(getattr(self.profiled, quantity) / getattr(self.without, quantity.replace("whole", "call")))


@contextlib.contextmanager
def nothing(_pipeline: Any, _folder: Path) -> Iterator[None]:
    yield


def with_tracekit(pipeline: Any, folder: Path) -> AbstractContextManager[object]:
    # What it measures of the machine beforehand takes seconds by design, and is no cost of recording.
    return tracekit.profile(pipeline, output=folder / "run", calibration=False)


@contextlib.contextmanager
def with_torch_profiler(_pipeline: Any, folder: Path, **options: Any) -> Iterator[None]:
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], **options) as profiler:
        yield
    profiler.export_chrome_trace(str(folder / "trace.json"))


@contextlib.contextmanager
def with_viztracer(_pipeline: Any, folder: Path) -> Iterator[None]:
    # Its ring holds the last million calls by default: a run's calls must not be lost.
    tracer = VizTracer(verbose=0, tracer_entries=10_000_000, output_file=str(folder / "trace.json"))
    tracer.start()
    yield
    tracer.stop()
    tracer.save()


PROFILERS: dict[str, Profiler] = {
    "nothing": nothing,
    "tracekit": with_tracekit,
    "torch.profiler, default options": with_torch_profiler,
    "torch.profiler, as diffusers' example": functools.partial(
        with_torch_profiler, record_shapes=True, profile_memory=True, with_stack=True
    ),
    "VizTracer": with_viztracer,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="synthetic:flux-tiny")
    parser.add_argument("--output", type=Path, required=True, help="the report to write")
    parser.add_argument("--blocks", type=int, default=21)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the calls")
    options = parser.parse_args()
    load_before = os.getloadavg()
    torch.set_num_threads(1)
    device = resolve_device("emulated")
    prepare_device(device, None, None)
    folder = find_folder(options.pipeline)
    pipeline = load_pipeline(str(folder), None)
    pipeline.set_progress_bar_config(disable=True)
    apply_offload(pipeline, OffloadOptions(mode="sequential"), device.torch_device, contextlib.nullcontext)
    call_options = CallOptions(steps=options.steps, seed=0)

    def call(step_ended: StepEnded) -> None:
        arguments = build_call(pipeline, folder, call_options, device.torch_device)
        pipeline(**arguments, callback_on_step_end=step_ended)

    for profiler in PROFILERS.values():  # what only the first use costs is no overhead of a profile
        with tempfile.TemporaryDirectory() as scratch, profiler(pipeline, Path(scratch)):
            call(no_step_ended)
    pairs = measure(pipeline, call, options.blocks, random.Random(options.seed))
    loads = f"Load average {load_before[0]:.1f} at the start, {os.getloadavg()[0]:.1f} at the end."
    text = report(options, pairs, f"{where(describe_device(device, None))}\n{loads}\n", recorded(pipeline, call))
    options.output.write_text(text)
    print(text)
    return 0


def measure(pipeline: Any, call: Call, blocks: int, order: random.Random) -> dict[str, list[Pair]]:
    pairs: dict[str, list[Pair]] = {name: [] for name in PROFILERS}
    for block in range(blocks):
        for name in order.sample(list(PROFILERS), len(PROFILERS)):
            with tempfile.TemporaryDirectory() as scratch:
                first = order.choice((True, False))
                timings = {
                    with_it: timed(PROFILERS[name] if with_it else nothing, pipeline, call, Path(scratch))
                    for with_it in (first, not first)
                }
                size = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file())
            pairs[name].append(Pair(timings[False], timings[True], size))
        print(f"block {block + 1} of {blocks} done", file=sys.stderr)
    return pairs


def timed(profiler: Profiler, pipeline: Any, call: Call, folder: Path) -> Timing:
    step_ends = []

    def step_ended(_pipeline: Any, _step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        step_ends.append(time.process_time())
        return kwargs

    gc.collect()  # one call's garbage is not the next one's cost
    start, start_cpu = time.perf_counter(), time.process_time()
    with profiler(pipeline, folder):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        call(step_ended)
        done, done_cpu = time.perf_counter(), time.process_time()
    end, end_cpu = time.perf_counter(), time.process_time()
    return Timing(step_ends[-1] - step_ends[0], done_cpu - begun_cpu, done - begun, end_cpu - start_cpu, end - start)


def no_step_ended(_pipeline: Any, _step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs


def recorded(pipeline: Any, call: Call) -> int:
    """How many spans and copies tracekit records of one call."""
    with tempfile.TemporaryDirectory() as scratch:
        with tracekit.profile(pipeline, output=Path(scratch) / "run", trace=False) as run:
            call(no_step_ended)
        return len(run.data.spans) + len(run.data.copies)


def report(options: argparse.Namespace, pairs: dict[str, list[Pair]], machine: str, events: int) -> str:
    rows = [
        [
            name,
            *(percent([pair.ratio(quantity) for pair in own]) for quantity in Timing.__annotations__),
            format_bytes(round(statistics.median(pair.size_bytes for pair in own))) if name != "nothing" else "",
        ]
        for name, own in pairs.items()
    ]
    header = ["profiler", "later steps, CPU", "call, CPU", "call, wall", "whole, CPU", "whole, wall", "files"]
    bare = [pair.without for own in pairs.values() for pair in own]
    added = [pair.profiled.call_cpu - pair.without.call_cpu for pair in pairs["tracekit"]]
    each, low, high = (1e6 * bound / events for bound in median_interval(added))
    return f"""\
# What profilers cost on a CPU

{machine}
{options.pipeline}, {options.steps} steps, sequential offload on the emulated device, torch in one thread. Each profiler
had {options.blocks} pairs of neighbouring calls, one with it and one without, in random order. The table has the median
of what it adds, and in brackets that median's 95% interval. "later steps" are the denoising steps after the first;
"call" is the pipeline's whole call while the profiler records, with what it does once a call; "whole" has the
profiler's start, its end and the writing of its files, too (tracekit: Parquet tables and the Chrome trace;
torch.profiler: `export_chrome_trace`; VizTracer: `save`). CPU is the process's CPU time, which other programs on the
machine disturb less than wall time. "nothing" is paired with itself: its row is the method's noise, and what another
row adds within it is not shown to be there.

{markdown_table(header, rows)}

- Without a profiler, a call took {spread([timing.call_wall for timing in bare])} s of wall time and
  {spread([timing.call_cpu for timing in bare])} s of CPU time, in {len(bare)} calls.
- tracekit recorded {events:,} spans and copies of a call, at {each:.0f} ({low:.0f} to {high:.0f}) us of the call's CPU
  time each, with what it does once a call, and the emulated device's log, in it.
- A share says how much a profiler does beside how little the pipeline does: these modules are as small as they come.
  Where modules compute longer, the same work is a smaller share.
"""


def spread(seconds: list[float]) -> str:
    """The median, and the extremes."""
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def percent(ratios: list[float]) -> str:
    """What is added, in percent: the median, and its 95% interval."""
    median, low, high = (100 * (bound - 1) for bound in median_interval(ratios))
    return f"{median:+.1f}% ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    sys.exit(main())
