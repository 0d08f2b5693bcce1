#!/usr/bin/env python3
"""What tracekit's hooks cost a step, and whether they wait for the device, measured within one process.

Periods of three steps with hooks on and off alternate, each pair of them in random order; the first step of a period is
not counted, since the interpreter forgets what it had learned of a class that is patched. Every transformer block
is timed on the host, in every counted step. A shared machine disturbs some of them, and never makes one faster: a step
stands for the sum over blocks of each one's lower quartile, with hooks and without. Given is their ratio, less one,
with an interval from resampling pairs of neighbouring periods (bootstrap), and beside it, which drift over minutes
leaves alone, the median of the pairs' own ratios, each of the sums of the blocks' fastest times. What else varies is
kept down: the process stays on cores of its own choice, and the garbage collector rests.

Before that, whole steps with hooks on and off alternate under CUPTI's record, which counts the calls that synchronise.
After it, whole calls with all of tracekit and without it alternate.

Each arm's times are kept beside the table, as [period, counted step, block] (overhead-ARM.npz); `--earlier FOLDER` goes
on from those of an earlier call on such a machine, since a pair's ratio is all that is compared.

    scripts/bench_overhead_gpu.py --output reports/data [--seconds 240] [--earlier FOLDER]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchlib import markdown_table, where
from torch import nn

from tracekit.api.options import CaptureOptions
from tracekit.api.recording import Recording
from tracekit.api.run import Run
from tracekit.capture.hooks import VARIABLE
from tracekit.device.choice import DeviceChoice, prepare_device, resolve_device
from tracekit.device.describe import describe_device
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.offload.residency import denoisers
from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.pipeline import find_folder, load_pipeline

ARMS = {
    "sequential, pinned host memory": OffloadOptions(mode="sequential", host_memory="pinned"),
    "resident": OffloadOptions(mode="resident"),
}
WHAT = """\
Periods of steps with hooks on and off alternate; each block of the transformer is timed on the host. "hooks add" is the
sum of the blocks' lower quartiles with hooks over that without, less one; the 95% interval comes from resampling pairs
of neighbouring periods. "by pairs" is the median of the pairs' own ratios, each of the sums of the blocks' fastest
times. "waits" are calls into the CUDA runtime that synchronise, per step, counted by CUPTI in whole steps with and
without hooks: the hooks add none where both agree. "all of it" compares whole calls of the pipeline, as `tracekit
profile` records them (hooks, CUPTI's record, the allocator's history, NVML), with calls without tracekit, in turn: the
median time of a step with and without, and the ratios of the pairs.
"""
PERIOD = 3
"""Steps of a period; the first is not counted."""
PERIODS = 6
"""Periods of one call of the pipeline, after a step that warms up."""
RESAMPLES = 1_000
WAIT_STEPS = 9
CALL_STEPS, WARM_AFTER = 10, 2
"""Steps of a whole call, and the step after which they are timed."""
CORES = 4
"""Cores to stay on: one for the pipeline's thread, the others for what torch and CUDA start."""


class Switch:
    """Puts a session's hooks on and off."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._on = True

    def turn(self, on: bool) -> None:
        """Have them as told."""
        if on != self._on:
            (self._session.resume if on else self._session.pause)()
            self._on = on


@dataclass
class Periods:
    """The blocks' times in ns, a matrix [counted step, block] for each period: (hooks on, times)."""

    switch: Switch
    order: random.Random
    done: list[tuple[bool, np.ndarray]]
    _plan: list[bool] = field(default_factory=list)
    _times: list[list[int]] = field(default_factory=lambda: [[]])

    def begin_call(self) -> int:
        """Plan a call; returns how many steps it must have."""
        first = [self.order.random() < 0.5 for _ in range(PERIODS // 2)]
        self._plan = [on for start in first for on in (start, not start)]
        self._times = [[]]
        return 1 + PERIOD * PERIODS

    def run_block(self, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """One block of a step, timed on the host."""
        start = time.monotonic_ns()
        result = forward(*args, **kwargs)
        self._times[-1].append(time.monotonic_ns() - start)
        return result

    def step_ended(self, _pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Diffusers' callback_on_step_end."""
        period, place = divmod(step, PERIOD)  # step 0 warms up; PERIOD steps end each period
        if place == 0 and step:
            self.done.append((self._plan[period - 1], np.array(self._times[-PERIOD + 1 :])))
        if place == 0 and period < PERIODS:
            self.switch.turn(self._plan[period])
        self._times.append([])
        gc.collect(0)
        return kwargs

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """The times with hooks and without, as [pair, counted step, block]: periods come in pairs, one of each."""
        on, off = (np.array([wall for side_on, wall in self.done if side_on is side]) for side in (True, False))
        return on, off

    def cost(self) -> tuple[float, float, float]:
        """What hooks add to a step: the ratio of the blocks' lower quartiles less one, and its 95% interval."""
        on, off = self.sides()

        def added(pairs: np.ndarray) -> float:
            with_hooks, without = (np.quantile(np.concatenate(side[pairs]), 0.25, axis=0).sum() for side in (on, off))
            return float(with_hooks / without - 1)

        drawn = np.random.default_rng(0).integers(0, len(on), (RESAMPLES, len(on)))
        low, high = np.quantile([added(pairs) for pairs in drawn], (0.025, 0.975)).tolist()
        return added(np.arange(len(on))), low, high

    def by_pairs(self) -> float:
        """The median of the ratios, less one, of neighbouring periods' fastest blocks."""
        on, off = (side.min(axis=1).sum(axis=1) for side in self.sides())
        return float(np.median(on / off) - 1)

    def width(self) -> float:
        """Width of the interval."""
        if len(self.done) < 2 * PERIODS:
            return math.inf
        _, low, high = self.cost()
        return high - low


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="synthetic:flux-dev-denoiser")
    parser.add_argument("--size", type=int, default=512, help="height and width of the picture")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="time for each arm at most")
    parser.add_argument("--width", type=float, default=0.015, help="width of the 95%% interval to reach, of a step")
    parser.add_argument("--arms", help="only these, separated by ;")
    parser.add_argument("--recorder", choices=("compiled", "python"), default="compiled")
    parser.add_argument("--earlier", type=Path, help="folder with the times of an earlier call, to go on from")
    parser.add_argument("--calls", type=int, default=5, help="pairs of whole calls, with all of tracekit and without")
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    options = parser.parse_args()
    os.environ[VARIABLE] = options.recorder
    stay_on_cores()
    options.output.mkdir(parents=True, exist_ok=True)
    device = resolve_device(options.device)
    prepare_device(device, None, None)
    rows = []
    for name, offload in ARMS.items():
        if not options.arms or name in options.arms.split(";"):
            gc.collect()
            torch.get_device_module(device.torch_device).empty_cache()
            rows.append(measure(options, device, name, offload))
            print(json.dumps(rows[-1]), flush=True)
    table = markdown_table(list(rows[0]), [list(row.values()) for row in rows])
    text = f"# What the hooks cost a step\n\n{where(describe_device(device, None))}\n{WHAT}\n{table}\n"
    (options.output / "overhead.md").write_text(text)
    print(text)
    return 0


def stay_on_cores() -> None:
    """Keep the process from wandering; the highest cores are the least likely to serve interrupts."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > CORES:
        os.sched_setaffinity(0, allowed[-CORES:])


def measure(options: argparse.Namespace, device: DeviceChoice, name: str, offload: OffloadOptions) -> dict[str, object]:
    """One arm: the pipeline is loaded and offloaded once, and recorded twice."""
    folder = find_folder(options.pipeline)
    pipeline = load_pipeline(str(folder), None)
    pipeline.set_progress_bar_config(disable=True)
    # The functions that nothing has patched yet.
    synchronize = torch.get_device_module(device.torch_device).synchronize

    @contextmanager
    def setup(_name: str) -> Any:
        yield

    apply_offload(pipeline, offload, device.torch_device, setup)

    def call(steps: int, step_ended: Callable[..., Any]) -> None:
        given = CallOptions(steps=steps, height=options.size, width=options.size, seed=0)
        pipeline(**build_call(pipeline, folder, given, device.torch_device), callback_on_step_end=step_ended)

    output = options.output / ("overhead-" + name.replace(",", "").replace(" ", "-"))
    waits = count_waits(recording(options, offload, output, "auto"), device, pipeline, call, synchronize)
    if device.kind == "cuda":
        # Somebody else's history, of one entry: tracekit then leaves its own out, which takes long to read after a run.
        torch.cuda.memory._record_memory_history(max_entries=1)
    done = earlier(options, output.name)
    periods = time_blocks(recording(options, offload, output, "none"), device, pipeline, call, done, options)
    if device.kind == "cuda":
        torch.cuda.memory._record_memory_history(enabled=None)
    everything = partial(recording, options, offload, output, "auto", nvml=True)
    whole = time_calls(options.calls, everything, device, pipeline, call, synchronize) if options.calls else "-"
    np.savez_compressed(
        output.with_suffix(".npz"),
        on=[on for on, _ in periods.done],
        wall_ns=[wall for _, wall in periods.done],
    )
    return {
        "arm": name,
        "recorder": options.recorder,
        "counted steps": sum(len(wall) for _, wall in periods.done),
        "blocks of a step without hooks, ms (10% to 90%)": spread(periods),
        "hooks add (95%)": interval(periods.cost()),
        "by pairs": f"{100 * periods.by_pairs():+.2f}%",
        "waits a step, on": waits[True],
        "waits a step, off": waits[False],
        "all of it": whole,
    }


def earlier(options: argparse.Namespace, name: str) -> list[tuple[bool, np.ndarray]]:
    """An arm's periods from the call that this one goes on from."""
    path = options.earlier / f"{name}.npz" if options.earlier else None
    if path is None or not path.exists():
        return []
    times = np.load(path)
    return list(zip(times["on"].tolist(), times["wall_ns"], strict=True))


def recording(
    options: argparse.Namespace, offload: OffloadOptions, output: Path, activity: str, nvml: bool = False
) -> Recording:
    capture = CaptureOptions(
        output=output, force=True, nvml=nvml, trace=False, calibration=False, activity=activity, device=options.device
    )
    return Recording(capture, options.pipeline, offload.manifest())


@contextmanager
def recorded(recording: Recording, device: DeviceChoice, pipeline: Any) -> Any:
    """A recording of a pipeline that is loaded and offloaded already."""
    with recording:
        recording.use_device(device)
        recording.session.on_first_run = recording.note_pipeline
        recording.session.register(pipeline)
        recording.session.watch(pipeline)
        yield recording.session


def count_waits(
    recording: Recording,
    device: DeviceChoice,
    pipeline: Any,
    call: Callable[..., None],
    synchronize: Callable[[], None],
) -> dict[bool, float]:
    """Synchronising runtime calls a step, with hooks and without, without the one that ends each step."""
    steps: list[tuple[bool, int, int]] = []
    with recorded(recording, device, pipeline) as session:
        switch, start = Switch(session), time.monotonic_ns()

        def step_ended(_pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            nonlocal start
            synchronize()
            if step:
                steps.append((step % 2 == 0, start, time.monotonic_ns()))
            switch.turn(step % 2 == 1 or step == WAIT_STEPS - 1)
            start = time.monotonic_ns()
            return kwargs

        call(WAIT_STEPS, step_ended)
    return {on: synchronisations(recording.run, [step for step in steps if step[0] is on]) for on in (True, False)}


def synchronisations(run: Run, steps: list[tuple[bool, int, int]]) -> float:
    calls = run.data.runtime_calls
    times = calls.start_ns[calls.name.str.contains("Synchronize")].to_numpy()
    inside = sum(int(((times >= start) & (times < end)).sum()) for _, start, end in steps)
    return round(inside / len(steps) - 1, 3)


def time_calls(
    calls: int,
    new_recording: Callable[[], Recording],
    device: DeviceChoice,
    pipeline: Any,
    call: Callable[..., None],
    synchronize: Callable[[], None],
) -> str:
    """Whole calls with all of tracekit and without it, in turn."""
    pairs = []
    for index in range(calls):
        times = {}
        for profiled in (index % 2 == 0, index % 2 == 1):
            with recorded(new_recording(), device, pipeline) if profiled else nullcontext():
                times[profiled] = step_time(call, synchronize)
        pairs.append(times)
    on, off = (statistics.median(times[side] for times in pairs) for side in (True, False))
    ratios = sorted(100 * (times[True] / times[False] - 1) for times in pairs)
    return f"{on:.1f} ms, {off:.1f} ms: {', '.join(f'{ratio:+.1f}%' for ratio in ratios)}"


def step_time(call: Callable[..., None], synchronize: Callable[[], None]) -> float:
    """Milliseconds a step takes in a call of the pipeline, once it is warm."""
    ends = []

    def step_ended(_pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step + 1 in (WARM_AFTER, CALL_STEPS):
            synchronize()
            ends.append(time.monotonic_ns())
        return kwargs

    call(CALL_STEPS, step_ended)
    return (ends[1] - ends[0]) / (CALL_STEPS - WARM_AFTER) / 1e6


def time_blocks(
    recording: Recording,
    device: DeviceChoice,
    pipeline: Any,
    call: Callable[..., None],
    done: list[tuple[bool, np.ndarray]],
    options: argparse.Namespace,
) -> Periods:
    """Call the pipeline until the interval is narrow enough, or the time is up; `done` are earlier periods."""
    with recorded(recording, device, pipeline) as session:
        periods = Periods(Switch(session), random.Random(options.seed), done)
        for block in transformer_blocks(pipeline):
            time_block(block, periods)
        deadline = time.monotonic() + options.seconds
        # Everything alive now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.disable()
        while time.monotonic() < deadline and periods.width() > options.width:
            call(periods.begin_call(), periods.step_ended)
            periods.switch.turn(True)
        gc.enable()
        gc.unfreeze()
    return periods


def transformer_blocks(pipeline: Any) -> list[nn.Module]:
    """The blocks that the denoiser goes through in each step, in order."""
    (denoiser,) = denoisers(pipeline).values()
    return [block for part in denoiser.children() if isinstance(part, nn.ModuleList) for block in part]


def time_block(block: Any, periods: Periods) -> None:
    forward = block.forward
    block.forward = lambda *args, **kwargs: periods.run_block(forward, args, kwargs)


def interval(found: tuple[float, float, float]) -> str:
    value, low, high = (100 * part for part in found)
    return f"{value:+.2f}% ({low:+.2f} to {high:+.2f})"


def spread(periods: Periods) -> str:
    steps = np.concatenate([wall.sum(axis=1) for on, wall in periods.done if not on]) / 1e6
    return "{1:.1f} ({0:.1f} to {2:.1f})".format(*np.quantile(steps, (0.1, 0.5, 0.9)))


if __name__ == "__main__":
    sys.exit(main())
