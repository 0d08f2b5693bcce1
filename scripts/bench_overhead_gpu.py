#!/usr/bin/env python3
"""What tracekit's hooks cost a step, and whether they wait for the device, measured within one process.

Denoising steps alternate between hooks on and off in blocks of four, on off off on or the reverse at random, so that
drift cancels; each lies between two synchronisations of the benchmark's own, and CUPTI records throughout. A block
gives one difference, and blocks are added until the 95% interval of what the hooks add is narrower than `--width` of a
step, or the time is up. What else varies is kept down: the process stays on cores of its own choice, the garbage
collector rests during steps, and a step after each switch is not counted, since the interpreter forgets what it had
learned of a class that is patched. The CPU time of the thread that runs the pipeline is measured beside the wall time:
other programs and the link disturb it less, and where a step is bound by Python it is the same quantity.
Synchronising calls are counted by CUPTI in both kinds of step, the benchmark's own left out.

    scripts/bench_overhead_gpu.py --output reports/data [--seconds 240]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchlib import markdown_table, median_interval, where

from tracekit.api.options import CaptureOptions
from tracekit.api.recording import Recording
from tracekit.api.run import Run
from tracekit.capture.hooks import VARIABLE
from tracekit.device.choice import prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.pipeline import find_folder, load_pipeline

ARMS = {
    "sequential, pinned host memory": OffloadOptions(mode="sequential", host_memory="pinned"),
    "resident": OffloadOptions(mode="resident"),
}
WHAT = """\
Steps with the hooks on and off alternate in one process, CUPTI recording throughout; each block of four counted steps,
on off off on or the reverse, gives one ratio of the time with hooks to the time without. Given is the median of what
that adds, with its 95% interval from order statistics; "CPU" is the CPU time of the pipeline's thread. "waits" are
calls into the CUDA runtime that synchronise, per step, the benchmark's own left out: the hooks add none where both
agree.
"""
BLOCKS = 3
"""Blocks of one pipeline call: CUPTI's window must not grow so full that a counted step ends it."""
ORDERS = ((True, False, False, True), (False, True, True, False))
CORES = 4
"""Cores to stay on: one for the pipeline's thread, the others for what torch and CUDA start."""


@dataclass(frozen=True)
class Step:
    """One counted step: with hooks or without, its place in time (ns), its thread's CPU time (ns)."""

    on: bool
    start_ns: int
    end_ns: int
    cpu_ns: int


def schedule(order: random.Random) -> list[tuple[bool, bool]]:
    """The steps of one call: whether the hooks are on, and whether it counts. After each switch one does not."""
    steps: list[tuple[bool, bool]] = [(True, False)]
    for _ in range(BLOCKS):
        for on in order.choice(ORDERS):
            if steps[-1][0] is not on:
                steps.append((on, False))
            steps.append((on, True))
    return steps


class Alternation:
    """Switches the hooks between steps and times each step."""

    def __init__(self, session: Any, synchronize: Callable[[], None], seed: int) -> None:
        self._session = session
        self._synchronize = synchronize
        self._order = random.Random(seed)
        self._plan: list[tuple[bool, bool]] = []
        self._on = True
        self._start = (0, 0)
        self.steps: list[Step] = []

    def next_call(self) -> int:
        """Plan another call of the pipeline; returns how many steps it must have."""
        self._plan = schedule(self._order)
        return len(self._plan)

    def step_ended(self, _pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Diffusers' callback_on_step_end."""
        self._synchronize()
        wall, cpu = time.monotonic_ns(), time.thread_time_ns()
        if step > 0 and self._plan[step][1]:
            self.steps.append(Step(self._on, self._start[0], wall, cpu - self._start[1]))
        self._switch(self._plan[step + 1][0] if step + 1 < len(self._plan) else True)
        gc.collect(0)
        self._synchronize()
        self._start = time.monotonic_ns(), time.thread_time_ns()
        return kwargs

    def _switch(self, on: bool) -> None:
        if on != self._on:
            (self._session.resume if on else self._session.pause)()
            self._on = on

    def ratios(self, quantity: str) -> list[float]:
        """Of each block, the time with hooks over the time without, less one."""
        found = []
        for first in range(0, len(self.steps) - 3, 4):
            block = self.steps[first : first + 4]
            sums = {on: sum(length(step, quantity) for step in block if step.on is on) for on in (True, False)}
            found.append(sums[True] / sums[False] - 1)
        return found


def length(step: Step, quantity: str) -> int:
    return step.cpu_ns if quantity == "cpu" else step.end_ns - step.start_ns


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="synthetic:flux-dev-denoiser")
    parser.add_argument("--size", type=int, default=512, help="height and width of the picture")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="time for each arm at most")
    parser.add_argument("--width", type=float, default=0.02, help="width of the 95%% interval to reach, of a step")
    parser.add_argument("--arms", help="only these, separated by ;")
    parser.add_argument("--recorder", choices=("compiled", "python"), default="compiled")
    parser.add_argument("--seed", type=int, default=0, help="of the blocks' order")
    options = parser.parse_args()
    os.environ[VARIABLE] = options.recorder
    stay_on_cores()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, offload in ARMS.items():
        if not options.arms or name in options.arms.split(";"):
            gc.collect()
            torch.cuda.empty_cache()
            rows.append(measure(options, name, offload))
            print(json.dumps(rows[-1]), flush=True)
    columns = list(rows[0])
    device = describe_device(resolve_device(options.device), None)
    table = markdown_table(columns, [list(row.values()) for row in rows])
    text = f"# What the hooks cost a step\n\n{where(device)}\n{WHAT}\n{table}\n"
    (options.output / "overhead.md").write_text(text)
    print(text)
    return 0


def stay_on_cores() -> None:
    """Keep the process from wandering; the highest cores are the least likely to serve interrupts."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > CORES:
        os.sched_setaffinity(0, allowed[-CORES:])


def measure(options: argparse.Namespace, name: str, offload: OffloadOptions) -> dict[str, object]:
    device = resolve_device(options.device)
    prepare_device(device, None, None)
    synchronize = torch.get_device_module(device.torch_device).synchronize  # the one that nothing has patched yet
    folder = find_folder(options.pipeline)
    output = options.output / ("overhead-" + name.replace(",", "").replace(" ", "-"))
    capture = CaptureOptions(output=output, force=True, nvml=False, trace=False, calibration=False)
    recording = Recording(capture, options.pipeline, offload.manifest())
    with recording:
        recording.use_device(device)
        session = recording.session
        session.on_first_run = recording.note_pipeline
        pipeline = load_pipeline(str(folder), None)
        pipeline.set_progress_bar_config(disable=True)
        session.register(pipeline)
        session.watch(pipeline)
        apply_offload(pipeline, offload, device.torch_device, session.setup)
        alternation = Alternation(session, synchronize, options.seed)
        deadline = time.monotonic() + options.seconds
        # Everything alive now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.disable()
        while time.monotonic() < deadline:
            steps = alternation.next_call()
            call = CallOptions(steps=steps, height=options.size, width=options.size, seed=0)
            arguments = build_call(pipeline, folder, call, device.torch_device)
            pipeline(**arguments, callback_on_step_end=alternation.step_ended)
            _, low, high = median_interval(alternation.ratios("wall"))
            if high - low < options.width:
                break
        gc.enable()
        gc.unfreeze()
    return row(name, alternation, recording.run)


def row(name: str, alternation: Alternation, run: Run) -> dict[str, object]:
    off = [length(step, "wall") / 1e9 for step in alternation.steps if not step.on]
    deciles = statistics.quantiles(off, n=10)
    syncs = {on: synchronisations(run, [step for step in alternation.steps if step.on is on]) for on in (True, False)}
    return {
        "arm": name,
        "recorder": run.manifest.versions["recorder"],
        "blocks": len(alternation.steps) // 4,
        "step without hooks, s (10% to 90%)": f"{statistics.median(off):.4f} ({deciles[0]:.4f} to {deciles[-1]:.4f})",
        "hooks add, wall (95%)": interval(alternation.ratios("wall")),
        "hooks add, CPU (95%)": interval(alternation.ratios("cpu")),
        "mean, wall": f"{100 * statistics.fmean(alternation.ratios('wall')):+.2f}%",
        "waits a step, on": syncs[True],
        "waits a step, off": syncs[False],
    }


def interval(ratios: list[float]) -> str:
    median, low, high = (100 * value for value in median_interval(ratios))
    return f"{median:+.2f}% ({low:+.2f} to {high:+.2f})"


def synchronisations(run: Run, steps: list[Step]) -> float:
    """Synchronising runtime calls inside the steps, per step, without the one that ends each step."""
    calls = run.data.runtime_calls
    times = calls.start_ns[calls.name.str.contains("Synchronize")].to_numpy()
    inside = sum(int(((times >= step.start_ns) & (times < step.end_ns)).sum()) for step in steps)
    return round(inside / len(steps) - 1, 3)


if __name__ == "__main__":
    sys.exit(main())
