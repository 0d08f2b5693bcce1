#!/usr/bin/env python3
"""Predict configurations from one sequential run, measure each in a process of its own, and tabulate the errors (CUDA).

The source run is profiled first; every arm is predicted from it alone. Run folders are kept in the output folder, so
that a call that ran out of its `--seconds` is continued by the same call; `--table` runs nothing and makes the table of
what is there, which needs no GPU. Two configurations are kept aside: nobody looked at their times while the model was
built, and they are reported apart.

The source run's own configuration is among the arms, several times: how far these are from the source run is what no
prediction from one run can do better than. So is how far two runs of one arm are apart: with `--blocks 2` most arms are
run again after all were run once, and what was measured is the mean. Each process calibrates the machine anew; how much
slower it found it than the source run did stands in the last columns, and steps are predicted once more for a host as
slow as it was in each run, by a piece of Python that is timed between steps. Every arm is predicted a second time,
from all of the sequential runs: what is left of an error is less of one run's luck then, and more of the model's. With
`--earlier` the table shows each arm's errors in other campaigns, too.

    scripts/check_prediction_gpu.py --output /tmp/prediction [--pipeline synthetic:sdxl-denoiser --size 1024]
        [--vram 12GB] [--steps 8] [--blocks 2] [--seconds 540] [--arms NAME;NAME]
        [--table [--earlier FOLDER ...]]
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

from predictions.arms import ARMS, Arm, arm_folder, configured, failure_path, is_complete
from predictions.page import table

from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.rates import UnknownCost
from tracekit.analysis.prediction.weights import Weights
from tracekit.api import Run, load
from tracekit.experiment.process import run_arm
from tracekit.experiment.template import Template
from tracekit.experiment.verification import RESIDENT_NAME, offload_words
from tracekit.model.experiment import ArmRun, Outcome
from tracekit.model.plan import Configuration
from tracekit.units import GIB, parse_bytes

PAGE_CACHE = ("--page-cache", "cached")
"""Every run begins with the weights in the page cache and not mapped, as the source run did.

One whose set-up takes the weights out of their files finds them there, since a run came before; it has no mapped weight
left whose state could be set.
"""
TOUCHED = 40 * GIB
"""More host memory than any arm takes beside the page cache: group offload page-locks 34.6 GiB for Flux."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for run folders, results and the table")
    parser.add_argument("--pipeline", default="synthetic:flux-dev-denoiser")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8, help="of the source run")
    parser.add_argument("--vram", type=parse_bytes, default=parse_bytes("12GB"))
    parser.add_argument("--blocks", type=int, default=1, help="how often every arm is run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no arm after so long")
    parser.add_argument("--arms", default="", help="only these, separated by ;")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[], help="other campaigns' folders, for the table")
    parser.add_argument("--table", action="store_true", help="only write the table of what is finished")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.table:
        with Template() as template:
            measure_all(options, template)
    text = table(options)
    (options.output / "prediction.md").write_text(text)
    print(text)
    return 0


def measure_all(options: argparse.Namespace, template: Template) -> None:
    """Every arm that is wanted and not finished, while the time lasts."""
    begin = time.monotonic()
    source = profile_source(options, template)
    predictor = Predictor(source.timeline)
    wanted = options.arms.split(";") if options.arms else [arm.name for arm in ARMS]
    for block, arm in itertools.product(range(options.blocks), (arm for arm in ARMS if arm.name in wanted)):
        folder = arm_folder(options.output, arm, block)
        if (arm.once and block) or failure_path(folder).exists() or is_complete(folder):
            continue
        if time.monotonic() - begin > options.seconds:
            print("time is up: the same call goes on")
            break
        measure(options, arm, folder, predictor, template)
        print(folder.name, f"after {time.monotonic() - begin:.0f} s", flush=True)


def profile_source(options: argparse.Namespace, template: Template) -> Run:
    """The one run that everything is predicted from."""
    folder = options.output / "source"
    if not is_complete(folder):
        words = [
            *call_words(options, options.steps),
            *PAGE_CACHE,
            "--offload",
            "sequential",
            "--vram",
            f"{options.vram}B",
        ]
        # On a machine just started, the first process to use CUDA and its libraries reads them from disk.
        warm_up = [*call_words(options, 1), "--offload", "sequential", "--no-calibration"]
        run_arm(ArmRun(block=0, arm="warm-up"), warm_up, options.output / "warm-up", (), template)
        os.sync()  # a checkpoint that was just made is written to disk for half a minute, in the runs' way
        for when in ("first", "again"):
            print(f"touching host memory, {when}: {touch_memory():.1f} s", flush=True)
        ended = run_arm(ArmRun(block=0, arm="source"), words, folder, (), template)
        if ended.outcome is not Outcome.DONE:
            sys.exit(f"the source run failed: {ended.reason}")
    return load(folder)


def touch_memory() -> float:
    """Write to as much host memory as an arm takes, in a process of its own, and give it back; how long it took, s.

    What a virtual machine touches for the first time, its host has to find: the first arm to do so would pay for it.
    """
    begin = time.monotonic()
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    code = f"import torch; torch.empty({min(TOUCHED, free // 2)}, dtype=torch.uint8).fill_(1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.monotonic() - begin


def call_words(options: argparse.Namespace, steps: int) -> list[str]:
    size = str(options.size)
    call = ["--steps", str(steps), "--height", size, "--width", size, "--device", "cuda"]
    return [options.pipeline, *call]


def stays_mapped(configuration: Configuration, weights: Weights) -> bool:
    """Whether weights are still in their mmapped files when the first run begins."""
    if len(configuration.resident) == sum(not weight.is_buffer for weight in weights.all):
        return False
    pins = configuration.stream and not configuration.low_cpu_mem
    return configuration.host_memory == "as-loaded" and configuration.mode != "resident" and not pins


def measure(options: argparse.Namespace, arm: Arm, folder: Path, predictor: Predictor, template: Template) -> None:
    """Run an arm that can be predicted; why it has no run folder is kept in place of one."""
    try:
        configuration = configured(arm, predictor)
        predictor.predict(configuration)
    except UnknownCost as unknown:
        failure_path(folder).write_text(f"not predicted: {unknown}")
        return
    words = [
        *call_words(options, arm.steps),
        *(PAGE_CACHE if stays_mapped(configuration, predictor.weights) else ()),
        *offload_words(configuration, folder.with_name(f"{folder.name}-{RESIDENT_NAME}")),
    ]
    if arm.capped:
        words += ["--vram", f"{options.vram}B"]
    ended = run_arm(ArmRun(block=0, arm=folder.name), words, folder, (), template)
    if ended.outcome is not Outcome.DONE:
        failure_path(folder).write_text(ended.reason or str(ended.outcome))


if __name__ == "__main__":
    sys.exit(main())
