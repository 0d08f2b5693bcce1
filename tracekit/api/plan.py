"""Plan from a run, and keep the plan in the run folder; `tracekit.experiment` verifies it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tracekit.api.run import Run, load
from tracekit.runfolder.paths import PLAN_NAME

if TYPE_CHECKING:
    from tracekit.model.plan import OffloadPlan


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
    from tracekit.analysis.findings import find_findings
    from tracekit.analysis.prediction.planner import DEFAULT_STEPS, make_plan

    opened = run if isinstance(run, Run) else load(run)
    predictor = opened.predictor
    made = make_plan(
        opened.timeline,
        vram_bytes=vram_bytes,
        ram_bytes=ram_bytes,
        steps=steps or DEFAULT_STEPS,
        predictor=predictor,
    )
    if predictor is not None:
        made.findings = find_findings(
            opened.timeline, opened.facts, predictor, vram_bytes=made.vram_bytes, ram_bytes=made.ram_bytes
        )
    return made


def save_plan(run: Run, made: OffloadPlan) -> Path:
    """Keep a plan in the run folder, so that reports can show it."""
    from tracekit.render.files import write_file

    path = run.path / PLAN_NAME
    write_file(path, lambda stream: stream.write(msgspec.json.format(msgspec.json.encode(made), indent=2)))
    return path
