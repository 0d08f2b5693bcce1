"""Read an experiment's folder, as data from strangers: checked, never executed."""

from __future__ import annotations

from pathlib import Path

from tracekit.model.experiment import EXPERIMENT_NAME, EXPERIMENT_VERSION, Experiment
from tracekit.model.summary import Summary
from tracekit.runfolder.versioned import VersionedFile

_FILE = VersionedFile(
    name=EXPERIMENT_NAME,
    content=Experiment,
    version=EXPERIMENT_VERSION,
    folder_kind="experiment's folder",
    article="an",
    max_bytes=1 << 28,
)
_MAX_TIME_NS = 1 << 61


def is_experiment(path: Path) -> bool:
    """Whether a folder is an experiment's; it may still be damaged."""
    return (path / EXPERIMENT_NAME).is_file()


def read_experiment(path: Path) -> Experiment:
    """The experiment in a folder, finished or not.

    Raises:
        RunFolderError: there is none, of a version that this tracekit reads, or it is damaged.
    """
    experiment = _FILE.read(path)
    problem = _problem(experiment)
    if problem:
        raise _FILE.damaged(path, problem)
    return experiment


def _problem(experiment: Experiment) -> str:
    """What contradicts itself in an experiment whose fields all have their types; empty when nothing does."""
    plan = experiment.plan
    names = {arm.name for arm in plan.arms}
    turns = [(turn.block, turn.arm) for turn in plan.turns]
    if [(run.block, run.arm) for run in experiment.runs] != turns:
        return "its runs are not those that it planned"
    if len(set(turns)) != len(turns):
        return "an arm is twice in a block"
    used = {turn.arm for turn in plan.turns} | {name for pair in plan.contrasts for name in (pair.slow, pair.fast)}
    used |= {plan.baseline} if plan.baseline else set()
    if not used <= names:
        return f"there is no arm {min(used - names)!r}"
    if len(names) != len(plan.arms) or not all(_is_file_name(name) for name in names):
        return "its arms' names are not those of folders"
    if any(run.summary is not None and not _is_sane(run.summary) for run in experiment.runs):
        return "a time in it is impossible"
    return ""


def _is_file_name(name: str) -> bool:
    return bool(name) and name.replace("-", "").isalnum() and name.isascii()


def _is_sane(summary: Summary) -> bool:
    times = [row.wall_ns for row in summary.steps] + [row.wall_ns for row in summary.phases]
    times += [row.duration_ns for row in summary.causes]
    cold = summary.cold_warm
    if cold is not None:
        times += [cold.first_step_ns, cold.warm_step_ns or 0]
    return all(0 <= ns < _MAX_TIME_NS for ns in times)
