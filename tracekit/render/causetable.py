"""The causes of step 1 beside those of a warm step, as rows of texts that add up as displayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracekit.model import Cause, CauseRow, Evidence, StepRow, Summary
from tracekit.model.typical import always_pages, step_causes, typical_step, warm_steps
from tracekit.units import DurationUnit, format_duration

SMALL = 0.005
"""Causes below this share of every step shown share a row."""
_SMALLER = "smaller causes"


def cause_table(summary: Summary) -> tuple[list[str], list[list[str]], str] | None:
    """Columns, rows and a note: step 1 and the typical later step; None where no causes are known.

    Each column adds up to its first row, the step's wall time.
    """
    typical = typical_step(summary)
    steps = [step for step in (*summary.steps[:1], *([typical] if typical else ())) if step_causes(summary, step)]
    if not steps:
        return None
    causes = [step_causes(summary, step) for step in steps]
    groups = _groups(steps, causes)
    unit = DurationUnit.fitting(max(step.wall_ns for step in steps))
    columns = [_texts(unit, of_step, groups) for of_step in causes]
    names = ["wall", *(group[0] if len(group) == 1 else _SMALLER for group in groups)]
    found = ["", *(_found(group, causes) for group in groups)]
    rows = [[*cells] for cells in zip(names, *columns, found, strict=True)]
    header = ["cause", *(f"step {step.step_index + 1}" for step in steps), "found"]
    return header, rows, f"in {unit.name}; {_note(summary, typical if typical in steps else None)}"


def _groups(steps: Sequence[StepRow], causes: Sequence[Mapping[Cause, CauseRow]]) -> list[list[Cause]]:
    """The causes of each row: small ones together, if they are several, before unattributed, which is always last."""
    shown: list[Cause] = []
    small: list[Cause] = []
    for cause in Cause:
        shares = [
            of_step[cause].duration_ns / max(step.wall_ns, 1)
            for of_step, step in zip(causes, steps, strict=True)
            if cause in of_step
        ]
        if shares and cause is not Cause.UNATTRIBUTED:
            (shown if max(shares) >= SMALL else small).append(cause)
    return [*([cause] for cause in shown), *([small] if small else []), [Cause.UNATTRIBUTED]]


def _texts(unit: DurationUnit, causes: Mapping[Cause, CauseRow], groups: Sequence[Sequence[Cause]]) -> list[str]:
    """A step's wall time and its parts, in the order of the rows."""
    parts = [sum(causes[cause].duration_ns for cause in group if cause in causes) for group in groups]
    wall, texts = unit.split(parts)
    return [wall, *texts]


def _found(group: Sequence[Cause], causes: Sequence[Mapping[Cause, CauseRow]]) -> str:
    """How the figures of a row were found: inferred where one of them was."""
    found = {of_step[cause].evidence for of_step in causes for cause in group if cause in of_step}
    return str(Evidence.INFERRED if Evidence.INFERRED in found else Evidence.MEASURED)


def _note(summary: Summary, typical: StepRow | None) -> str:
    """Which step the typical one is, among how spread ones."""
    inferred = "inferred: by rules"
    if typical is None:
        return inferred
    own = [step for step in summary.steps if step.run_index == typical.run_index]
    kind = "later" if always_pages(summary) else "warm"
    walls = [step.wall_ns for step in warm_steps(own, summary.paging)]
    name = f"step {typical.step_index + 1}"
    if len(walls) == 1:
        return f"{name}: the one {kind} step; {inferred}"
    spread = f"{format_duration(min(walls))} to {format_duration(max(walls))}"
    return f"{name}: median of {len(walls)} {kind} steps ({spread}); {inferred}"
