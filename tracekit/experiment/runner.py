"""Run a plan's turns one after another, keep what is finished, and go on later where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import msgspec

import tracekit
from tracekit.errors import UsageError
from tracekit.experiment.process import run_arm
from tracekit.experiment.template import Template
from tracekit.model.experiment import EXPERIMENT_NAME, ArmRun, Experiment, Outcome, Plan, TurnProgress
from tracekit.render.files import write_file
from tracekit.runfolder.experiments import is_experiment, read_experiment
from tracekit.units import NS_PER_S
from tracekit.workload.pipeline import find_folder

OnTurn = Callable[[TurnProgress], None]


def run_experiment(
    plan: Plan,
    folder: Path,
    *,
    resume: bool = False,
    seconds: float | None = None,
    launcher: Sequence[str] = (),
    on_turn: OnTurn | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Experiment:
    """Run every turn that is not finished, each in a process of its own; its folder has the state after each of them.

    An arm that fails is recorded with its reason, and the others go on. Interrupted, it ends the running child, and
    what is finished stays.

    Args:
        plan: What to run.
        folder: The experiment's folder; ``block-N/<arm>`` in it are the arms' run folders, with a log beside each.
        resume: Go on with the experiment that is there: its finished arms are kept, the others run (again), and the
            plan may have more blocks.
        seconds: Begin no turn that is not expected to end within so long from now.
        launcher: A command that runs the one after it, put before each arm's.
        on_turn: Told when a turn begins and ends.
        clock: Nanoseconds, of a clock that never goes back.

    Raises:
        UsageError: the folder is taken, or holds another plan's experiment; no such pipeline.
    """
    experiment = _open(plan, folder, resume)
    deadline = None if seconds is None else clock() + round(seconds * NS_PER_S)
    find_folder(plan.workload)  # refused, or written, once and before the first arm
    options = {arm.name: arm.options for arm in plan.arms}
    save(experiment, folder)
    with Template() as template:
        for index, run in enumerate(experiment.runs):
            if run.outcome == Outcome.DONE:
                continue
            if deadline is not None and clock() + (expected_ns(experiment.runs, [run]) or 0) > deadline:
                break
            _tell(on_turn, experiment, index, run)
            words = [plan.workload, *plan.options, *options[run.arm]]
            target = folder / f"block-{run.block}" / run.arm
            experiment.runs[index] = run_arm(run, words, target, launcher, template)
            save(experiment, folder)
            _tell(on_turn, experiment, index, None)
    return experiment


def new_experiment(plan: Plan) -> Experiment:
    """An experiment of which nothing has run."""
    return Experiment(
        tracekit_version=tracekit.__version__,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        plan=plan,
        runs=[ArmRun(block=turn.block, arm=turn.arm) for turn in plan.turns],
    )


def save(experiment: Experiment, folder: Path) -> None:
    """Write ``experiment.json``, whole or not at all."""
    data = msgspec.json.format(msgspec.json.encode(experiment), indent=1)
    write_file(folder / EXPERIMENT_NAME, lambda stream: stream.write(data))


def expected_ns(runs: Iterable[ArmRun], turns: Iterable[ArmRun]) -> int | None:
    """About how long turns will take: as the arm's finished ones, else as all; None where none is finished."""
    walls: dict[str, list[int]] = {}
    for run in runs:
        if run.wall_ns:
            walls.setdefault(run.arm, []).append(run.wall_ns)
    if not walls:
        return None
    every = median(wall for values in walls.values() for wall in values)
    return round(sum(median(walls[turn.arm]) if turn.arm in walls else every for turn in turns))


def _open(plan: Plan, folder: Path, resume: bool) -> Experiment:
    if is_experiment(folder):
        if not resume:
            raise UsageError(
                f"{folder} holds an experiment already: --resume goes on with it, or choose another --output"
            )
        found = read_experiment(folder)
        _check_same(plan, found.plan, folder)
        finished = {(run.block, run.arm): run for run in found.runs if run.outcome == Outcome.DONE}
        # What failed or is void is tried again: what stood in its way may be gone. Blocks may be added.
        found.runs = [finished.get((run.block, run.arm), run) for run in new_experiment(plan).runs]
        found.plan = plan
        return found
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the output {folder} exists already and is no experiment: choose another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror or error}") from error
    return new_experiment(plan)


def _check_same(plan: Plan, found: Plan, folder: Path) -> None:
    for name in Plan.__struct_fields__:
        asked, there = getattr(plan, name), getattr(found, name)
        if name == "turns" and len(asked) < len(there):
            blocks = found.turns[-1].block + 1
            raise UsageError(
                f"{folder} has an experiment of {blocks} blocks: resume it with --repeats {blocks} or more"
            )
        if name == "turns":  # a block's order does not depend on how many there are
            asked = asked[: len(there)]
        if asked != there:
            detail = f" ({' '.join(map(str, there))})" if name == "options" else ""
            raise UsageError(
                f"the experiment in {folder} has other {name}{detail}: resume it with its own, "
                "or choose another --output"
            )


def _tell(on_turn: OnTurn | None, experiment: Experiment, index: int, begun: ArmRun | None) -> None:
    """Say that a turn begins (`begun`) or has ended."""
    if on_turn is None:
        return
    run = begun or experiment.runs[index]
    rest = [left for left in experiment.runs[index + (begun is None) :] if left.outcome != Outcome.DONE]
    on_turn(
        TurnProgress(
            number=index + 1,
            turns=len(experiment.runs),
            block=run.block,
            arm=run.arm,
            outcome=Outcome.PLANNED if begun else run.outcome,
            reason=run.reason,
            wall_ns=run.wall_ns,
            left_ns=expected_ns(experiment.runs, rest),
        )
    )
