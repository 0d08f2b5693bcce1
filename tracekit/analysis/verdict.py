"""Say in plain sentences where a run's time goes, each claim with its figure, its spread and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.analysis.causes import DEVICE_RECORDS
from tracekit.analysis.coldstory import SLIGHT, cold_story
from tracekit.model import Cause, StepRow, Summary
from tracekit.model.typical import always_pages, step_causes, typical_step, warm_steps
from tracekit.units import format_bytes, format_duration, format_share

_MOSTLY_WEIGHTS = 0.9


@dataclass(frozen=True)
class Shares:
    """How a number of steps divide, as shares of their summed wall time: exposed + compute + rest = 1."""

    steps: int
    exposed: float
    exposed_min: float
    exposed_max: float
    compute: float
    rest: float
    copy: float
    own: float

    @classmethod
    def of(cls, steps: Sequence[StepRow]) -> Shares | None:
        """The shares of these steps; None where they took no time."""
        wall = sum(step.wall_ns for step in steps)
        if wall <= 0:
            return None
        each = [step.exposed_copy_ns / step.wall_ns for step in steps if step.wall_ns]
        return cls(
            len(steps),
            sum(step.exposed_copy_ns for step in steps) / wall,
            min(each),
            max(each),
            sum(step.compute_ns for step in steps) / wall,
            sum(step.rest_ns for step in steps) / wall,
            sum(step.copy_ns for step in steps) / wall,
            sum(step.tracekit_ns for step in steps) / wall,
        )


def knows_kernels(summary: Summary) -> bool:
    """Whether the device's record says when kernels ran: a killed run's last window, or a refused CUPTI, does not."""
    return summary.activity in DEVICE_RECORDS and any(step.compute_ns for step in summary.steps)


def verdict(summary: Summary) -> str:
    """The verdict on a summary whose figures are all there: the state, the warm step, step 1, and what limits it."""
    sentences = []
    if not summary.complete:
        sentences.append(f"This profile is incomplete: {summary.incomplete_reason or 'it never ended'}.")
    warm = warm_steps(summary.steps, summary.paging)
    shares = Shares.of(warm or summary.steps)
    if shares is None:
        moved = format_bytes(summary.h2d_bytes)
        sentences.append(f"No denoising step was recorded; {moved} were copied to the device.")
    else:
        later = "a later step" if always_pages(summary) else "a warm step"
        sentences.append(_where_time_goes(summary, shares, later if warm else "step 1"))
        sentences += filter(None, [_beyond_the_link(summary)])
        if shares.own > SLIGHT:
            sentences.append(f"tracekit's own work took {format_share(shares.own)} of it.")
        collecting = _collecting(summary, warm or summary.steps)
        if collecting > SLIGHT:
            sentences.append(f"Python's garbage collector took {format_share(collecting)} of it.")
        sentences += cold_story(summary)
    if summary.emulated:
        sentences.append("The device is emulated: its times are this machine's memory and disk, not a GPU's.")
    return " ".join(sentences)


def _where_time_goes(summary: Summary, shares: Shares, step: str) -> str:
    copying = "copying weights" if _mostly_weights(summary) else "copying"
    if not knows_kernels(summary):
        kind = "" if summary.activity == "cuda-events" else " (as the host saw it)"
        return f"{copying.capitalize()} takes {format_share(shares.copy)} of {step}{kind}; computing was not recorded."
    computing = f"computing {format_share(shares.compute)}"
    if shares.copy < SLIGHT and _weights_stay(summary):
        copied = f"copies take {format_share(shares.copy)} of {step}" if shares.copy else f"nothing is copied in {step}"
        return f"Weights stay on the device: {copied}, and {computing}."
    exposed = f"{format_share(shares.exposed)} of {step}{_spread(shares)}"
    if shares.exposed < SLIGHT <= shares.copy:
        under_way = format_share(shares.copy)
        return (
            f"Copying is hidden behind computing: copies are under way for {under_way} of {step}, "
            f"and only {format_share(shares.exposed)} of it has no kernel beside them; {computing}."
        )
    # What is left of 100, so that the three figures add up as printed.
    neither = f"{max(0, 100 - round(100 * shares.exposed) - round(100 * shares.compute))}% is neither"
    if shares.exposed >= max(shares.compute, shares.rest):
        return f"{copying.capitalize()} takes {exposed}, {computing}, and {neither}."
    if shares.compute >= shares.rest:
        return (
            f"Computing takes {format_share(shares.compute)} of {step}, "
            f"{copying} that no kernel hides {format_share(shares.exposed)}{_spread(shares)}, and {neither}."
        )
    return (
        f"For {format_share(shares.rest)} of {step} neither a copy nor a kernel runs (Python, allocation, waiting); "
        f"{copying} takes {format_share(shares.exposed)}{_spread(shares)}, and {computing}."
    )


def _collecting(summary: Summary, steps: Sequence[StepRow]) -> float:
    """Which share of these steps Python's garbage collector took."""
    found = (step_causes(summary, step).get(Cause.GARBAGE) for step in steps)
    return sum(row.duration_ns for row in found if row is not None) / sum(step.wall_ns for step in steps)


def _beyond_the_link(summary: Summary) -> str:
    """What pageable memory costs a warm step beyond the link, where a pinned ceiling tells the two apart."""
    typical = typical_step(summary)
    causes = step_causes(summary, typical) if typical is not None else {}
    if typical is None or Cause.STAGING not in causes or Cause.LINK not in causes:
        return ""
    staging, link = causes[Cause.STAGING].duration_ns, causes[Cause.LINK].duration_ns
    if staging < SLIGHT * typical.wall_ns:
        return ""
    return (
        f"Copying from pageable memory takes {format_duration(staging + link)} of {format_duration(typical.wall_ns)}, "
        f"where the link needs {format_duration(link)}."
    )


def _weights_stay(summary: Summary) -> bool:
    """Whether a step copies next to nothing of what the denoiser's modules weigh."""
    steps = warm_steps(summary.steps, summary.paging) or summary.steps
    copied = sum(step.h2d_bytes for step in steps) / len(steps)
    weights = sum(
        module.weight_bytes for module in summary.modules if module.fqn.partition(".")[0] in summary.denoisers
    )
    return weights == 0 or copied < SLIGHT * weights


def _mostly_weights(summary: Summary) -> bool:
    return sum(module.h2d_bytes for module in summary.modules) >= _MOSTLY_WEIGHTS * summary.h2d_bytes


def _spread(shares: Shares) -> str:
    low, high = format_share(shares.exposed_min), format_share(shares.exposed_max)
    if shares.steps == 1:
        return ""
    return f" ({low} in each of {shares.steps})" if low == high else f" ({low} to {high} in {shares.steps} steps)"
