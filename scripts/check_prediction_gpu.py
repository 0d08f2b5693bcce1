#!/usr/bin/env python3
"""Predict configurations from one sequential run, measure each in a process of its own, and tabulate the errors (CUDA).

The source run is profiled first; every arm is predicted from it alone. Run folders are kept in the output folder, so
that a call that ran out of its `--seconds` is continued by the same call; `--table` runs nothing and makes the table of
what is there, which needs no GPU. Two configurations are kept aside: nobody looked at their times while the model was
built, and they are reported apart.

The source run's own configuration is among the arms, several times: how far these are from the source run is what no
prediction from one run can do better than. So is how far two runs of one arm are apart: with `--blocks 2` all arms are
run again after all were run once, most of them, and what was measured is the mean. Each process
calibrates the machine anew; how much slower it found it than the source run did stands in the last columns. Every arm
is predicted a second time, from that one of the sequential runs which was nearest in time: what is left of an error is
more of the model's then, and less of the machine's drift.

    scripts/check_prediction_gpu.py --output /tmp/prediction [--pipeline synthetic:sdxl-denoiser --size 1024]
        [--vram 12GB] [--steps 8] [--blocks 2] [--seconds 540] [--arms NAME;NAME] [--table]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from benchlib import markdown_table, where_it_ran

from tracekit.analysis.drift import machine_drift
from tracekit.analysis.prediction.assumptions import ASSUMPTIONS
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.rates import UnknownCost
from tracekit.analysis.prediction.weights import Weights
from tracekit.api import Run, load
from tracekit.experiment.process import run_arm
from tracekit.experiment.template import Template
from tracekit.experiment.verification import RESIDENT_NAME, compare, offload_words
from tracekit.model.experiment import ArmRun, Outcome
from tracekit.model.plan import Configuration, Estimate, PlanRow, VerifiedRow
from tracekit.units import GIB, format_duration, format_memory, parse_bytes

PAGE_CACHE = ("--page-cache", "cached")
"""Every run begins with the weights in the page cache and not mapped, as the source run did.

One whose set-up takes the weights out of their files finds them there, since a run came before; it has no mapped weight
left whose state could be set.
"""
QUANTITIES = ("set-up", "step 1", "warm step", "total", "device memory")
TOUCHED = 40 * GIB
"""More host memory than any arm takes beside the page cache: group offload page-locks 34.6 GiB for Flux."""
PIECES = ("host code", "pageable copies", "page-locking")
"""What of the machine's drift is shown, by `machine_drift`'s names."""


@dataclass(frozen=True)
class Arm:
    """One configuration to predict and measure: of a partial one, how much stays and in which order it is taken.

    `once`: in the first block alone, since it takes about a minute or is one of many alike.
    """

    name: str
    configuration: Configuration
    steps: int
    resident_gib: float = 0.0
    order: str = ""
    capped: bool = True
    aside: bool = False
    once: bool = False


def partial(gib: float, order: str, memory: str = "as-loaded") -> dict[str, object]:
    return {
        "configuration": Configuration(mode="partial", host_memory=memory),
        "resident_gib": gib,
        "order": order,
    }


SOURCE = Configuration(mode="sequential")
STREAM = Configuration(mode="group", stream=True)
RECORDED = Configuration(mode="group", group_level="block_level", stream=True, record_stream=True)
ARMS = (
    Arm("sequential, anonymous", Configuration(mode="sequential", host_memory="anonymous"), 4),
    Arm("sequential, pinned", Configuration(mode="sequential", host_memory="pinned"), 4),
    Arm("2 GiB resident, smallest first", steps=4, **partial(2, "smallest")),  # type: ignore[arg-type]
    Arm("4 GiB resident, largest first", steps=4, **partial(4, "largest")),  # type: ignore[arg-type]
    Arm("sequential, again", SOURCE, 4),
    Arm("8 GiB resident, smallest first", steps=4, **partial(8, "smallest")),  # type: ignore[arg-type]
    Arm("8 GiB resident, largest first, 10 steps", steps=10, **partial(8, "largest")),  # type: ignore[arg-type]
    Arm("group, leaf, stream", STREAM, 10),
    Arm("group, leaf, stream, 28 steps", STREAM, 28, once=True),
    Arm("group, block, stream", Configuration(mode="group", group_level="block_level", stream=True), 10),
    Arm("sequential, a third time", SOURCE, 4, once=True),
    Arm("group, leaf, no stream", Configuration(mode="group"), 2, once=True),
    Arm("model, no cap", Configuration(mode="model"), 4, capped=False),
    Arm("resident, no cap, 28 steps", Configuration(mode="resident"), 28, capped=False),
    Arm("group, leaf, stream, low_cpu_mem", Configuration(mode="group", stream=True, low_cpu_mem=True), 4),
    Arm("4 GiB resident, smallest, pinned, 10", steps=10, **partial(4, "smallest", "pinned")),  # type: ignore[arg-type]
    Arm("sequential, a fourth time", SOURCE, 4, once=True),
    Arm("6 GiB resident, largest, pinned", steps=4, **partial(6, "largest", "pinned")),  # type: ignore[arg-type]
    Arm("group, block, stream, record_stream", RECORDED, 10, aside=True),
    Arm("3 GiB resident, largest, anonymous", steps=6, aside=True, **partial(3, "largest", "anonymous")),  # type: ignore[arg-type]
    Arm("sequential, at the end", SOURCE, 4),
)


class ArmResult(msgspec.Struct, kw_only=True):
    """What was found of an arm in its runs, each a list of rows; `failed` says why there are none."""

    name: str
    aside: bool
    runs: list[list[VerifiedRow]] = []
    failed: str = ""
    near: list[str] = []
    """Of each run, which sequential run was nearest in time; empty where the arm is such a run."""
    near_runs: list[list[VerifiedRow]] = []
    slower: list[dict[str, float]] = []
    """What `machine_drift` says of each process against the source run's."""

    @property
    def rows(self) -> dict[str, VerifiedRow]:
        """By quantity, the runs' mean."""
        return combined(self.runs)

    @property
    def near_rows(self) -> dict[str, VerifiedRow]:
        """The same, predicted from the nearest sequential runs."""
        return combined(self.near_runs)


def combined(runs: Sequence[Sequence[VerifiedRow]]) -> dict[str, VerifiedRow]:
    """By quantity, the mean of what was measured beside that of what was predicted."""
    found = {}
    for rows in zip(*runs, strict=True):
        value, measured = (
            statistics.fmean(of) for of in ([row.predicted.value for row in rows], [row.measured for row in rows])
        )
        low, high = min(row.predicted.low for row in rows), max(row.predicted.high for row in rows)
        found[rows[0].quantity] = VerifiedRow(
            configuration=rows[0].configuration,
            quantity=rows[0].quantity,
            predicted=Estimate(round(value), low, high),
            measured=round(measured),
            error=value / measured - 1,
        )
    return found


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


def is_complete(folder: Path) -> bool:
    """Whether a run folder is there, of a run that ended."""
    return (folder / "manifest.json").exists() and load(folder).manifest.complete


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


def configured(arm: Arm, predictor: Predictor) -> Configuration:
    """The arm's configuration, with what it keeps resident."""
    if not arm.order:
        return arm.configuration
    resident = taken(predictor.weights, predictor.denoisers, round(arm.resident_gib * GIB), arm.order)
    return msgspec.structs.replace(arm.configuration, resident=resident)


def arm_folder(folder: Path, arm: Arm, block: int) -> Path:
    again = f"--block-{block + 1}" if block else ""
    return folder / ("".join(letter if letter.isalnum() else "-" for letter in arm.name) + again)


def failure_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-failed.txt")


class Reference:
    """A sequential run that arms are predicted from."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.run = name, load(folder)
        self.created = datetime.fromisoformat(self.run.manifest.created)
        self._predictor = Predictor(self.run.timeline)

    def predicted(self, arm: Arm, run: Run) -> list[VerifiedRow]:
        """What this run says of an arm, beside what the arm's run says."""
        configuration = configured(arm, self._predictor)
        row = PlanRow(configuration=configuration, prediction=self._predictor.predict(configuration), totals={})
        return compare(row, run.summary())


def references(folder: Path, blocks: int) -> list[Reference]:
    """The source run, and the arms that are its configuration once more."""
    found = [Reference("source", folder / "source")]
    for block, arm in itertools.product(range(blocks), (arm for arm in ARMS if arm.configuration is SOURCE)):
        if is_complete(path := arm_folder(folder, arm, block)):
            found.append(Reference(f"{arm.name}{' (block 2)' if block else ''}", path))
    return found


def time_between(run: Run, reference: Reference) -> timedelta:
    """How far apart in time two runs began."""
    return abs(reference.created - datetime.fromisoformat(run.manifest.created))


def finished(options: argparse.Namespace, arm: Arm, known: Sequence[Reference]) -> ArmResult | None:
    """What was predicted for an arm and what its run folder says; None: it was not run yet."""
    folders = [arm_folder(options.output, arm, block) for block in range(options.blocks)]
    result = ArmResult(name=arm.name, aside=arm.aside)
    if (failure := failure_path(folders[0])).exists():
        result.failed = failure.read_text()
        return result
    source = known[0]
    for folder in filter(is_complete, folders):
        run = load(folder)
        result.runs.append(source.predicted(arm, run))
        result.slower.append(machine_drift(source.run.summary().ceilings, run.summary().ceilings))
        if arm.configuration is not SOURCE:
            nearest = min(known, key=functools.partial(time_between, run))
            result.near.append(nearest.name)
            result.near_runs.append(nearest.predicted(arm, run))
    return result if result.runs else None


def taken(weights: Weights, denoisers: Sequence[str], budget: int, order: str) -> tuple[str, ...]:
    """The parameters that partial offload keeps in a budget when it takes modules in this order of size."""
    owners, seen = [], set()
    for fqn in weights.owners:
        own = [w for w in weights.owned(fqn) if not w.is_buffer and w.component in denoisers and w.key not in seen]
        seen.update(weight.key for weight in own)
        if own:
            owners.append((sum(weight.size_bytes for weight in own), own))
    owners.sort(key=lambda owner: owner[0], reverse=order == "largest")
    names: list[str] = []
    for size, own in owners:
        if size <= budget:
            budget -= size
            names += [f"{weight.fqn}.{weight.name}" for weight in own]
    return tuple(sorted(names))


def table(options: argparse.Namespace) -> str:
    """The page: all arms, those kept aside apart, and how far off the predictions were."""
    known = references(options.output, options.blocks)
    source = known[0].run
    results = [result for arm in ARMS if (result := finished(options, arm, known)) is not None]
    steps = source.summary().steps
    seen = [result for result in results if not result.aside]
    aside = [result for result in results if result.aside]
    parts = [
        "# Predicted and measured",
        where_it_ran(source.manifest),
        f"Everything is predicted from one sequential run of {options.pipeline}, {len(steps)} steps, "
        f"{options.size}x{options.size}, device memory capped to {format_memory(options.vram)} "
        f"(step 1: {format_duration(steps[0].wall_ns)}, last: {format_duration(steps[-1].wall_ns)}). "
        "Each arm is a process of its own, its weights in the page cache and not mapped. "
        "Of an arm that was run twice measured is the mean, both runs in brackets. Error: predicted against measured; "
        "(outside): what was measured is outside the predicted range. The last columns say what the same pieces of "
        "work took in the arm's calibration against the source run's: how much slower the machine was.",
        rows_table(seen),
        "Other configurations than the source run's:",
        errors([result.rows for result in seen if result.near]),
        "The source run's own, run again, which is what the machine does:",
        errors([result.rows for result in seen if not result.near]),
        repeats(results),
        memory_ends(results),
        "## Kept aside",
        rows_table(aside) if aside else "None in this list of arms.",
        errors([result.rows for result in aside]),
        "## From the sequential run that was nearest in time",
        near_table(results),
        errors([result.near_rows for result in results]),
        "## What is assumed",
        "\n".join(f"- {assumption}" for assumption in ASSUMPTIONS),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rows_table(results: Sequence[ArmResult]) -> str:
    columns = ["arm", *(f"{quantity}: predicted / measured / error" for quantity in QUANTITIES)]
    columns += [f"{piece}, against the source run" for piece in PIECES]
    lines = []
    for result in results:
        rows = result.rows
        cells = [cell(rows[q], measurements(result, q)) if q in rows else "-" for q in QUANTITIES]
        slower = [", ".join(f"{each[piece]:.2f}" for each in result.slower if piece in each) for piece in PIECES]
        lines.append([result.name, *([result.failed, *[""] * 4] if result.failed else cells), *slower])
    return markdown_table(columns, lines)


def near_table(results: Sequence[ArmResult]) -> str:
    """Predicted from the nearest of the sequential runs: errors alone."""
    lines = []
    for result in results:
        if result.near_runs:
            found = {quantity: f"{row.error:+.1%}" for quantity, row in result.near_rows.items()}
            near = "; ".join(dict.fromkeys(result.near))
            lines.append([result.name, near, *(found.get(quantity, "-") for quantity in QUANTITIES)])
    return markdown_table(["arm", "predicted from", *QUANTITIES], lines)


def measurements(result: ArmResult, quantity: str) -> list[int]:
    """What each run measured."""
    return [row.measured for rows in result.runs for row in rows if row.quantity == quantity]


def cell(row: VerifiedRow, runs: Sequence[int]) -> str:
    show = format_memory if row.quantity == "device memory" else format_duration
    within = "" if row.predicted.low <= row.measured <= row.predicted.high else " (outside)"
    each = f" ({', '.join(map(show, runs))})" if len(runs) > 1 and row.quantity != "device memory" else ""
    return f"{show(row.predicted.value)} / {show(row.measured)}{each} / {row.error:+.1%}{within}"


def errors(arms: Sequence[dict[str, VerifiedRow]]) -> str:
    found = {quantity: [abs(rows[quantity].error) for rows in arms if quantity in rows] for quantity in QUANTITIES}
    return middle_and_worst(found, "median error")


def repeats(results: Sequence[ArmResult]) -> str:
    """How far apart two runs of the same arm are: no prediction can be nearer to both than half of that."""
    found: dict[str, list[float]] = {}
    for quantity in QUANTITIES:
        twice = [took for result in results if len(took := measurements(result, quantity)) > 1]
        found[quantity] = [(max(took) - min(took)) / statistics.fmean(took) for took in twice]
    listed = middle_and_worst(found, "median difference")
    return f"Two runs of one arm, against their mean:\n\n{listed}" if listed else ""


def memory_ends(results: Sequence[ArmResult]) -> str:
    """Whether the upper end of predicted device memory, which decides what fits, held in each run."""
    rows = [row for result in results for rows in result.runs for row in rows if row.quantity == "device memory"]
    under = sum(row.predicted.high < row.measured for row in rows)
    return (
        "The upper end of predicted device memory, by which a plan decides what fits, was below what was measured in "
        f"{under} of {len(rows)} runs."
    )


def middle_and_worst(found: dict[str, list[float]], what: str) -> str:
    return "\n".join(
        f"- {quantity}: {what} {statistics.median(shares):.1%}, worst {max(shares):.1%}"
        for quantity, shares in found.items()
        if shares
    )


if __name__ == "__main__":
    sys.exit(main())
