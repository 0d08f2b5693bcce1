"""The one thing to do with a run that shows nothing to change: get the evidence that it lacks, or look elsewhere."""

from __future__ import annotations

import shlex

from tracekit.analysis.causes import DEVICE_RECORDS
from tracekit.analysis.findings.command import again
from tracekit.model import Cause, Manifest, Summary
from tracekit.model.finding import NextStep
from tracekit.model.typical import step_causes, warm_steps
from tracekit.units import format_duration

_MUCH = 0.25
"""Share of step 1 that disk reads must take before a run without them is worth its time."""
_WITHOUT_WARM = 0.1
"""Share of all first onloads' time, of modules onloaded once, from which a second run is worth its time."""


def next_step(summary: Summary, manifest: Manifest) -> NextStep:
    """What helps most."""
    warm = warm_steps(summary.steps, summary.paging)
    if summary.steps and not warm:
        return NextStep(
            reason="One step has nothing warm to compare with: run more",
            command=again(manifest, ("--steps",), "--steps 4"),
        )
    if summary.activity not in DEVICE_RECORDS:
        return NextStep(
            reason="Without the device's own record nothing can be predicted from this run: see what withholds it",
            command="tracekit doctor",
        )
    disk = step_causes(summary, summary.steps[0]).get(Cause.DISK) if summary.steps else None
    if disk is not None and disk.duration_ns >= _MUCH * summary.steps[0].wall_ns:
        return NextStep(
            reason=f"Disk reads took {format_duration(disk.duration_ns)} of step 1: see it with the weights' files "
            "read into the page cache before",
            command=again(manifest, ("--page-cache",), "--page-cache cached"),
        )
    once = [module for module in summary.modules if module.onloads == 1]
    first_ns = sum(module.first_ns for module in summary.modules)
    if warm and sum(module.first_ns for module in once) > _WITHOUT_WARM * first_ns:
        names = ", ".join(dict.fromkeys(module.fqn.partition(".")[0] for module in once))
        return NextStep(
            reason=f"The weights of {names} were onloaded once, so they have no warm sample: call the pipeline twice",
            command=again(manifest, ("--runs",), "--runs 2"),
        )
    if not summary.steps:
        return NextStep(
            reason="No denoising step was recorded: see what was",
            command=shlex.join(["tracekit", "open", summary.path]),
        )
    return NextStep(
        reason="No change is predicted to save more than steps differ by: see all that was compared",
        command=shlex.join(["tracekit", "plan", summary.path]),
    )
