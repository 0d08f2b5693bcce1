#!/usr/bin/env python
"""Kill a real profile with SIGKILL at random moments, and count what was lost.

Each profile is a process of its own (forked after the libraries' import, which is not what is tested), which makes its
run folder anew. It tells its parent, through shared memory, how many steps have ended. It is killed at a moment drawn
evenly from the making of the folder to past the profile's usual end, so that the writing of the Parquet parts is hit,
too. Then the folder must be readable: its summary and its trace are made.
"""

from __future__ import annotations

import argparse
import io
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from benchlib import markdown_table, median_interval, where

from tracekit import api
from tracekit.errors import TracekitError
from tracekit.model import Progress
from tracekit.offload.options import OffloadOptions
from tracekit.render.chrome import write_chrome_trace
from tracekit.workload.call import CallOptions
from tracekit.workload.pipeline import load_pipeline

WORKLOAD, STEPS = "synthetic:flux-tiny", 12


@dataclass(frozen=True)
class Killed:
    """One killed profile: steps that had ended, steps in the folder (None: unreadable), and the time lost (ns)."""

    complete: bool
    ended_steps: int
    read_steps: int | None
    lost_ns: int | None
    problem: str = ""


def profile(path: Path, ended: mmap.mmap) -> None:
    """The profile; never returns."""

    def note(progress: Progress) -> None:
        ended[0] = min(progress.steps_done, 255)

    api.profile_pipeline(
        WORKLOAD,
        offload=OffloadOptions(mode="sequential"),
        call=CallOptions(steps=STEPS, height=32, width=32),
        capture=api.CaptureOptions(output=path, device="emulated", trace=False, calibration=False),
        on_progress=note,
    )


def start(path: Path, ended: mmap.mmap) -> int:
    """Fork a process that profiles; its id once the run folder is there."""
    ended[0] = 0
    child = os.fork()
    if child == 0:
        try:
            profile(path, ended)
        finally:
            os._exit(0)
    while not path.exists():
        time.sleep(0.001)
    return child


def usual_duration(folder: Path, ended: mmap.mmap) -> float:
    """How long a profile lasts from the making of its folder on, seconds."""
    child = start(folder / "whole", ended)
    began = time.monotonic()
    os.waitpid(child, 0)
    return time.monotonic() - began


def kill_one(path: Path, ended: mmap.mmap, after_s: float) -> Killed:
    child = start(path, ended)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    killed_ns = time.monotonic_ns()
    os.waitpid(child, 0)
    ended_steps = ended[0]
    try:
        run = api.load(path)
        run.summary()
        write_chrome_trace(run.timeline, io.BytesIO())
    except TracekitError as error:
        return Killed(False, ended_steps, None, None, str(error))
    except Exception as error:  # noqa: BLE001 - a traceback is the failure that is looked for
        return Killed(False, ended_steps, None, None, f"{type(error).__name__}: {error}")
    last = run.data.spans["end_ns"].max() if len(run.data.spans) else run.manifest.clock.monotonic_ns
    complete = run.manifest.complete
    lost_ns = 0 if complete else max(int(killed_ns - last), 0)
    return Killed(complete, ended_steps, len(run.timeline.steps), lost_ns)


def report(results: list[Killed], duration_s: float, origin: str) -> str:
    readable = [killed for killed in results if killed.read_steps is not None]
    cut = [killed for killed in readable if not killed.complete]
    behind = [killed.ended_steps - (killed.read_steps or 0) for killed in readable]
    lost_ms = [(killed.lost_ns or 0) / 1e6 for killed in cut]
    middle, low, high = median_interval(lost_ms)
    rows = [
        ("profiles killed", len(results)),
        ("folders readable (summary and trace made)", len(readable)),
        ("of them complete: the kill came after the end", len(readable) - len(cut)),
        ("killed before the first step had ended", sum(killed.ended_steps == 0 for killed in cut)),
        ("steps that had ended and are not in the folder, at worst", max([0, *behind])),
        ("host time not in the folder, median (95% interval)", f"{middle:.0f} ms ({low:.0f} to {high:.0f})"),
        ("host time not in the folder, at worst", f"{max(lost_ms, default=0):.0f} ms"),
    ]
    problems = "".join(f"\n- {killed.problem}" for killed in results if killed.problem)
    return (
        f"# Killed profiles\n\n{WORKLOAD}, sequential, {STEPS} steps, killed with SIGKILL at moments drawn evenly from "
        f"the {duration_s * 1.1:.1f} s\nafter its run folder was made (a profile lasts {duration_s:.1f} s). What is "
        "open is lost: a step, or a stretch of set-up,\nwhich is written at its end.\n\n"
        + markdown_table(("", ""), rows)
        + f"\n{problems}\n{origin}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60, help="stop after so long with the kills so far")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write the report here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load_pipeline(WORKLOAD, None)  # imports all that a profile does, before the first fork
    rng = random.Random(options.seed)
    ended = mmap.mmap(-1, 1)
    results = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        duration_s = usual_duration(folder, ended)
        end = time.monotonic() + 60 * options.minutes
        for number in range(options.kills):
            if time.monotonic() > end:
                break
            path = folder / f"killed-{number}"
            results.append(kill_one(path, ended, rng.uniform(0, 1.1 * duration_s)))
            shutil.rmtree(path)
        device = api.load(folder / "whole").manifest.device
    text = report(results, duration_s, where(device))
    print(text)
    if options.output:
        options.output.write_text(text)
    return int(any(killed.read_steps is None for killed in results))


if __name__ == "__main__":
    sys.exit(main())
