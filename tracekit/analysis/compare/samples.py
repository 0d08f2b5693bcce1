"""The samples of a run: its warm steps, what they went into, and what each module's copies took in them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tracekit.model import Cause, Direction, StepRow, Summary, Timeline
from tracekit.model.text import codes_and_texts
from tracekit.model.typical import warm_steps

Values = list[float]
PARTS = {"exposed copies": "exposed_copy_ns", "compute": "compute_ns", "neither copy nor kernel": "rest_ns"}
"""What a step divides into where its causes are not known, and the fields of its row."""


@dataclass(frozen=True)
class RunSamples:
    """What one run folder contributes: a value a warm step by quantity, and what there is one of in a run."""

    walls: Values
    causes: Mapping[str, Values]
    """By cause, or by part where the run has no causes; each step's add up to its wall time."""
    modules: Mapping[str, Values]
    """Copy time to the device by FQN, of every module of the pipeline that has weights: 0 where it was not onloaded."""
    h2d_bytes: Values
    first_ns: int | None
    first_causes: Mapping[str, int]
    setup_ns: int
    total_ns: int
    allocated_bytes: int | None
    reserved_bytes: int | None


def run_samples(timeline: Timeline, summary: Summary, *, by_cause: bool) -> RunSamples:
    """The samples of a run; `by_cause` asks for causes, which it must have then."""
    warm = warm_steps(summary.steps, summary.paging)
    first = summary.steps[0] if summary.steps else None
    divide = _causes(summary) if by_cause else _parts(summary)
    names = [str(cause) for cause in Cause] if by_cause else list(PARTS)
    return RunSamples(
        walls=[float(step.wall_ns) for step in warm],
        causes={name: [float(divide[_key(step)].get(name, 0)) for step in warm] for name in names},
        modules=_module_times(timeline, warm),
        h2d_bytes=[float(step.h2d_bytes) for step in warm],
        first_ns=first.wall_ns if first else None,
        first_causes={name: divide[_key(first)].get(name, 0) for name in names} if first else {},
        setup_ns=summary.setup_ns,
        total_ns=summary.total_ns,
        allocated_bytes=summary.peak_allocated_bytes,
        reserved_bytes=summary.peak_reserved_bytes,
    )


def means(samples: Sequence[Values]) -> Values:
    """Each run's mean: one sample a run. Runs without any are left out."""
    return [statistics.fmean(values) for values in samples if values]


def _key(step: StepRow) -> tuple[int, int]:
    return step.run_index, step.step_index


def _causes(summary: Summary) -> dict[tuple[int, int], dict[str, int]]:
    found: dict[tuple[int, int], dict[str, int]] = {_key(step): {} for step in summary.steps}
    for row in summary.causes:
        found[row.run_index, row.step_index][str(row.cause)] = row.duration_ns
    return found


def _parts(summary: Summary) -> dict[tuple[int, int], dict[str, int]]:
    return {_key(step): {name: getattr(step, field) for name, field in PARTS.items()} for step in summary.steps}


def _module_times(timeline: Timeline, warm: Sequence[StepRow]) -> dict[str, Values]:
    copies, places = timeline.copies, {_key(step): place for place, step in enumerate(warm)}
    own = copies[copies["is_weight"] & (copies["direction"] == Direction.H2D)]
    place = np.array(
        [places.get(key, -1) for key in zip(own["run_index"], own["step_index"], strict=True)], dtype=np.int64
    )
    codes, names = codes_and_texts(own["fqn"])
    sums = np.zeros((len(names), len(warm)))
    np.add.at(sums, (codes[place >= 0], place[place >= 0]), own["duration_ns"].to_numpy()[place >= 0])
    known = set(timeline.run.parameters["fqn"])
    return {name: [0.0] * len(warm) for name in known} | {
        name: values for name, values in zip(names, sums.tolist(), strict=True) if name in known
    }
