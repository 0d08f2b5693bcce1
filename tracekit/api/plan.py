"""Plan from a run, verify the plan by running it, and keep it in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tracekit.api.run import Run, load
from tracekit.errors import UsageError
from tracekit.runfolder.paths import PLAN_NAME, VERIFIED_NAME

if TYPE_CHECKING:
    from tracekit.model.plan import OffloadPlan, PlanRow, VerifiedRow

OnConfiguration = Callable[[str, int, int], None]
"""Told which configuration is about to run, how many were run, and how many there are."""


def plan(
    run: Run | str | Path,
    *,
    vram_bytes: int | None = None,
    ram_bytes: int | None = None,
    steps: Sequence[int] = (),
) -> OffloadPlan:
    """Predict every other configuration from one run.

    Args:
        run: A run, or its folder.
        vram_bytes: Device memory that may be used; None: the profiled machine's, or its cap.
        ram_bytes: Host memory; None: the profiled machine's.
        steps: Numbers of steps to compare; by default 4, 10, 28 and 50.

    Raises:
        UsageError: nothing can be predicted from this run.
    """
    from tracekit.analysis.prediction.planner import DEFAULT_STEPS, make_plan

    opened = run if isinstance(run, Run) else load(run)
    return make_plan(opened.timeline, vram_bytes=vram_bytes, ram_bytes=ram_bytes, steps=steps or DEFAULT_STEPS)


def verify(
    run: Run, made: OffloadPlan, count: int, on_configuration: OnConfiguration | None = None
) -> list[VerifiedRow]:
    """Run the `count` best configurations of a plan, each in a fresh process, and set measured beside predicted.

    They run the profiled command's pipeline with its other options, its number of steps included. Their run folders
    stay in the run's, under ``verified``.

    Raises:
        UsageError: it was a script's run, or the pipeline or the machine is not the profiled one; or one failed.
    """
    from tracekit.experiment.verification import base_options, run_configuration

    words = base_options(run.manifest)
    rows = best_rows(made)[:count]
    if not rows:
        raise UsageError("nothing in this plan fits, so that there is nothing to verify")
    verified: list[VerifiedRow] = []
    for place, row in enumerate(rows):
        if on_configuration is not None:
            on_configuration(row.configuration.name, place, len(rows))
        verified += run_configuration(row, words, run.path / VERIFIED_NAME, run.data, made.vram_bytes)
    return verified


def best_rows(made: OffloadPlan) -> list[PlanRow]:
    """What fits, the least total at the most steps first."""
    most = max(made.steps, default=0)
    return sorted((row for row in made.rows if row.fits), key=lambda row: row.totals[most].value)


def save_plan(run: Run, made: OffloadPlan) -> Path:
    """Keep a plan in the run folder, so that reports can show it."""
    from tracekit.render.files import write_file

    path = run.path / PLAN_NAME
    write_file(path, lambda stream: stream.write(msgspec.json.format(msgspec.json.encode(made), indent=2)))
    return path


def saved_plan(run: Run) -> OffloadPlan | None:
    """The plan that was kept in the run folder; None where there is none that this version reads."""
    from tracekit.model.plan import OffloadPlan

    try:
        return msgspec.json.decode((run.path / PLAN_NAME).read_bytes(), type=OffloadPlan)
    except (OSError, msgspec.DecodeError):
        return None
