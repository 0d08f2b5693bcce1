"""Run the reproduction, or a slice of it, and write its page."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console

from reproduction.cgroup import CannotLimitError, limited_memory
from reproduction.page import FIGURE, figure, page, small_files
from reproduction.plans import LIMITED_BYTES, PARTS, Setup, plans
from reproduction.results import Results
from tracekit.errors import ExitCode, TracekitError
from tracekit.experiment import run_experiment
from tracekit.model.experiment import ArmRun, Experiment, Outcome, Plan
from tracekit.render.armprogress import arm_progress
from tracekit.render.files import write_file

ROOT = Path(__file__).parents[2]


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/reproduce_post", description=__doc__)
    add = parser.add_argument
    add("--output", type=Path, default=Path("runs/reproduction"), help="finished arms that are there are kept")
    add("--only", action="append", choices=[*PARTS, "page"], help="this part; may be repeated (page: run nothing)")
    add("--seconds", type=float, help="begin no arm that is not expected to end in the time left")
    add("--page", type=Path, default=ROOT / "reports" / "reproduction", help="the page's folder")
    defaults = Setup()
    add("--pipeline", default=defaults.pipeline)
    add("--device", default=defaults.device)
    add("--vram", default=defaults.vram)
    add("--pixels", type=int, default=defaults.pixels, help="height and width")
    add("--resident-gib", type=float, default=defaults.resident_gib)
    add("--repeats", type=int, default=defaults.repeats, help="blocks of the paging experiment")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    options = parse(words)
    try:
        return _run(options)
    except TracekitError as error:
        print(f"reproduce_post: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "reproduce_post: interrupted; the finished arms are kept, and the same command goes on with them",
            file=sys.stderr,
        )
        return ExitCode.INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    parts = options.only or list(PARTS)
    if parts != ["page"]:
        setup = Setup(
            pipeline=options.pipeline,
            device=options.device,
            vram=options.vram,
            pixels=options.pixels,
            resident_gib=options.resident_gib,
            repeats=options.repeats,
        )
        _run_parts([part for part in PARTS if part in parts], setup, options.output, options.seconds)
    results = Results.read(options.output, PARTS)
    write_page(results, options.page)
    left = sum(run.outcome == Outcome.PLANNED for run in results.runs())
    print(
        f"{options.page / 'README.md'}: {len(results.runs()) - left} of {len(results.runs())} arms have run, "
        f"in {len(results.parts)} of {len(PARTS)} parts"
    )
    return ExitCode.OK


def _run_parts(parts: list[str], setup: Setup, output: Path, seconds: float | None) -> None:
    from tracekit.device.choice import resolve_device

    every = plans(setup, emulated=resolve_device(setup.device).kind == "emulated")
    deadline = None if seconds is None else time.monotonic() + seconds
    for part in parts:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return
        print(f"Part {part}", file=sys.stderr)
        if part == "limits":
            _run_limited(every[part], output / part, left)
        else:
            _run_part(every[part], output / part, left, [])


def _run_part(plan: Plan, folder: Path, seconds: float | None, launcher: list[str]) -> None:
    with arm_progress(Console(stderr=True)) as on_turn:
        run_experiment(plan, folder, resume=True, seconds=seconds, launcher=launcher, on_turn=on_turn)


def _run_limited(plan: Plan, folder: Path, seconds: float | None) -> None:
    """Part limits, or why it is skipped, in its own experiment's file."""
    try:
        with limited_memory(LIMITED_BYTES) as launcher:
            _run_part(plan, folder, seconds, launcher)
    except CannotLimitError as error:
        print(f"skipped: {error}", file=sys.stderr)
        if (folder / "experiment.json").exists():
            return  # what an earlier slice measured elsewhere stays
        from tracekit.experiment.runner import new_experiment, save

        experiment = new_experiment(plan)
        experiment.runs = [
            ArmRun(block=run.block, arm=run.arm, outcome=Outcome.FAILED, reason=f"skipped: {error}")
            for run in experiment.runs
        ]
        folder.mkdir(parents=True, exist_ok=True)
        save(experiment, folder)


def write_page(results: Results, folder: Path) -> None:
    """The page, its figure, and the experiments that they are made from, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "README.md", page(results))
    _write(folder / FIGURE, figure(results))
    for name, experiment in small_files(results).items():
        _write(folder / name, _json(experiment))


def _json(experiment: Experiment) -> str:
    return msgspec.json.format(msgspec.json.encode(experiment), indent=1).decode()


def _write(path: Path, text: str) -> None:
    write_file(path, lambda stream: stream.write(text.encode()))
