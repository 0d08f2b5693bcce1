#!/usr/bin/env python3
"""What tracekit's hooks cost a step, and whether they wait for the device, measured within one process.

Denoising steps alternate between hooks on and off (in the order on off off on, so that drift cancels), each between two
synchronisations of the benchmark's own; CUPTI records throughout. Pairs of neighbouring steps are added until the 95%
interval of their ratios' median is narrower than `--width`, or the time is up. Synchronising calls are counted by
CUPTI in both kinds of step, the benchmark's own left out.

    scripts/bench_overhead_gpu.py --output reports/data [--seconds 240]
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchlib import markdown_table, median_interval, where

from tracekit.api.options import CaptureOptions
from tracekit.api.recording import Recording
from tracekit.api.run import Run
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
Steps with the hooks on and off alternate in one process, CUPTI recording throughout; each pair of neighbouring steps
gives one ratio. The median of the ratios has a 95% interval from order statistics. "waits" are calls into the CUDA
runtime that synchronise, per step, the benchmark's own left out: the hooks add none where both columns agree.
"""
STEPS = 21
"""Steps of one run: the first warms up, 20 are paired."""
ORDER = (True, False, False, True)


class Alternation:
    """Switches the hooks between steps and times each step."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.steps: list[tuple[bool, int, int]] = []  # hooks on, start ns, end ns
        self.ratios: list[float] = []
        self._on = True
        self._start = 0

    def step_ended(self, _pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Diffusers' callback_on_step_end."""
        torch.cuda.synchronize()
        now = time.monotonic_ns()
        if step > 0:
            self.steps.append((self._on, self._start, now))
            if step % 2 == 0:
                pair = {on: end - start for on, start, end in self.steps[-2:]}
                self.ratios.append(math.log(pair[True] / pair[False]))
        self._switch(ORDER[step % 4] if step < STEPS - 1 else True)
        torch.cuda.synchronize()
        self._start = time.monotonic_ns()
        return kwargs

    def _switch(self, on: bool) -> None:
        if on != self._on:
            (self._session.resume if on else self._session.pause)()
            self._on = on


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="synthetic:flux-dev-denoiser")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240, help="time for each arm at most")
    parser.add_argument("--width", type=float, default=0.02, help="width of the 95%% interval to reach")
    parser.add_argument("--arms", help="only these, separated by ;")
    options = parser.parse_args()
    rows = []
    for name, offload in ARMS.items():
        if not options.arms or name in options.arms.split(";"):
            gc.collect()
            torch.cuda.empty_cache()
            rows.append(measure(options, name, offload))
            print(json.dumps(rows[-1]), flush=True)
    columns = list(rows[0])
    device = describe_device(resolve_device("cuda"), None)
    table = markdown_table(columns, [list(row.values()) for row in rows])
    text = f"# What the hooks cost a step\n\n{where(device)}\n{WHAT}\n{table}\n"
    (options.output / "overhead.md").write_text(text)
    print(text)
    return 0


def measure(options: argparse.Namespace, name: str, offload: OffloadOptions) -> dict[str, object]:
    device = resolve_device("cuda")
    prepare_device(device, None, None)
    folder = find_folder(options.pipeline)
    output = options.output / ("overhead-" + name.replace(",", "").replace(" ", "-"))
    capture = CaptureOptions(output=output, force=True, nvml=False, trace=False)
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
        alternation = Alternation(session)
        run_until(alternation, lambda: call(pipeline, folder, alternation), options)
    return row(name, alternation, recording.run)


def call(pipeline: Any, folder: Path, alternation: Alternation) -> None:
    arguments = build_call(pipeline, folder, CallOptions(steps=STEPS, height=512, width=512, seed=0), "cuda:0")
    pipeline(**arguments, callback_on_step_end=alternation.step_ended)


def run_until(alternation: Alternation, run: Callable[[], None], options: argparse.Namespace) -> None:
    deadline = time.monotonic() + options.seconds
    while True:
        run()
        _, low, high = median_interval(alternation.ratios)
        if high - low < options.width or time.monotonic() > deadline:
            return


def row(name: str, alternation: Alternation, run: Run) -> dict[str, object]:
    median, low, high = median_interval(alternation.ratios)
    off = sorted(end - start for on, start, end in alternation.steps if not on)
    syncs = {on: synchronisations(run, [s for s in alternation.steps if s[0] is on]) for on in (True, False)}
    return {
        "arm": name,
        "pairs": len(alternation.ratios),
        "step without hooks, median s": round(off[len(off) // 2] / 1e9, 4),
        "hooks cost, median": f"{100 * math.expm1(median):+.2f}%",
        "95% interval": f"{100 * math.expm1(low):+.2f}% to {100 * math.expm1(high):+.2f}%",
        "mean": f"{100 * math.expm1(statistics.fmean(alternation.ratios)):+.2f}%",
        "step without hooks, 10% to 90%": f"{off[len(off) // 10] / 1e9:.4f} to {off[-len(off) // 10] / 1e9:.4f}",
        "waits a step, hooks on": syncs[True],
        "waits a step, hooks off": syncs[False],
    }


def synchronisations(run: Run, steps: list[tuple[bool, int, int]]) -> float:
    """Synchronising runtime calls inside the steps, per step, without the one that ends each step."""
    calls = run.data.runtime_calls
    times = calls.start_ns[calls.name.str.contains("Synchronize")].to_numpy()
    inside = sum(int(((times >= start) & (times < end)).sum()) for _, start, end in steps)
    return round(inside / len(steps) - 1, 3)


if __name__ == "__main__":
    sys.exit(main())
