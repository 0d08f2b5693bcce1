"""Say in plain sentences where a run's time goes, each claim with its figure, its spread and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.model import StepRow, Summary
from tracekit.units import format_bytes, format_duration

_SLIGHT = 0.05
"""A share of a step below this is not worth naming as where the time goes."""
_MOSTLY_WEIGHTS = 0.9
_DEVICE_RECORDS = ("cupti", "emulated")


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


def warm_steps(steps: Sequence[StepRow]) -> list[StepRow]:
    """The steps that stand for warm ones: all but each run's first."""
    return [step for step in steps if step.step_index > 0]


def knows_kernels(summary: Summary) -> bool:
    """Whether the device's record says when kernels ran: a killed run's last window, or a refused CUPTI, does not."""
    return summary.activity in _DEVICE_RECORDS and any(step.compute_ns for step in summary.steps)


def verdict(summary: Summary) -> str:
    """The verdict on a summary whose figures are all there: the state, the warm step, step 1, and what limits it."""
    sentences = []
    if not summary.complete:
        sentences.append(f"This profile is incomplete: {summary.incomplete_reason or 'it never ended'}.")
    warm = warm_steps(summary.steps)
    shares = Shares.of(warm or summary.steps)
    if shares is None:
        moved = format_bytes(summary.h2d_bytes)
        sentences.append(f"No denoising step was recorded; {moved} were copied to the device.")
    else:
        sentences.append(_where_time_goes(summary, shares, "a warm step" if warm else "step 1"))
        if shares.own > _SLIGHT:
            sentences.append(f"tracekit's own work took {_percent(shares.own)} of it.")
        sentences.append(_first_step(summary))
        if summary.cold_warm is not None and summary.setup_ns > summary.cold_warm.first_step_ns:
            sentences.append(f"Set-up took {format_duration(summary.setup_ns)}.")
    if summary.emulated:
        sentences.append("The device is emulated: its times are this machine's memory and disk, not a GPU's.")
    return " ".join(sentences)


def _where_time_goes(summary: Summary, shares: Shares, step: str) -> str:
    copying = "copying weights" if _mostly_weights(summary) else "copying"
    if not knows_kernels(summary):
        kind = "" if summary.activity == "cuda-events" else " (as the host saw it)"
        return f"{copying.capitalize()} takes {_percent(shares.copy)} of {step}{kind}; computing was not recorded."
    computing = f"computing {_percent(shares.compute)}"
    if shares.copy < _SLIGHT and _weights_stay(summary):
        copied = f"copies take {_percent(shares.copy)} of {step}" if shares.copy else f"nothing is copied in {step}"
        return f"Weights stay on the device: {copied}, and {computing}."
    exposed = f"{_percent(shares.exposed)} of {step}{_spread(shares)}"
    if shares.exposed < _SLIGHT <= shares.copy:
        under_way = _percent(shares.copy)
        return (
            f"Copying is hidden behind computing: copies are under way for {under_way} of {step}, "
            f"and only {_percent(shares.exposed)} of it has no kernel beside them; {computing}."
        )
    # What is left of 100, so that the three figures add up as printed.
    neither = f"{max(0, 100 - round(100 * shares.exposed) - round(100 * shares.compute))}% is neither"
    if shares.exposed >= max(shares.compute, shares.rest):
        return f"{copying.capitalize()} takes {exposed}, {computing}, and {neither}."
    if shares.compute >= shares.rest:
        return (
            f"Computing takes {_percent(shares.compute)} of {step}, "
            f"{copying} that no kernel hides {_percent(shares.exposed)}{_spread(shares)}, and {neither}."
        )
    return (
        f"For {_percent(shares.rest)} of {step} neither a copy nor a kernel runs (Python, allocation, waiting); "
        f"{copying} takes {_percent(shares.exposed)}{_spread(shares)}, and {computing}."
    )


def _first_step(summary: Summary) -> str:
    cold = summary.cold_warm
    if cold is None or cold.warm_step_ns is None or cold.warm_max_ns is None:
        return "There is no warm sample: only one step was recorded."
    first = f"Step 1 took {format_duration(cold.first_step_ns)}"
    if cold.warm_samples == 1:
        later = f"the one later step ({format_duration(cold.warm_step_ns)})"
    else:
        later = f"the median of {cold.warm_samples} later steps ({format_duration(cold.warm_step_ns)})"
    ratio = cold.first_step_ns / max(cold.warm_step_ns, 1)
    if cold.first_step_ns <= cold.warm_max_ns or ratio < 1 + _SLIGHT:
        return f"{first}, no more than {later}: no cold start shows."
    return f"{first}, {ratio:.1f} times {later}." if ratio < 10 else f"{first}, {ratio:.0f} times {later}."


def _weights_stay(summary: Summary) -> bool:
    """Whether a step copies next to nothing of what the denoiser's modules weigh."""
    steps = warm_steps(summary.steps) or summary.steps
    copied = sum(step.h2d_bytes for step in steps) / len(steps)
    weights = sum(
        module.weight_bytes for module in summary.modules if module.fqn.partition(".")[0] in summary.denoisers
    )
    return weights == 0 or copied < _SLIGHT * weights


def _mostly_weights(summary: Summary) -> bool:
    return sum(module.h2d_bytes for module in summary.modules) >= _MOSTLY_WEIGHTS * summary.h2d_bytes


def _spread(shares: Shares) -> str:
    low, high = _percent(shares.exposed_min), _percent(shares.exposed_max)
    if shares.steps == 1:
        return ""
    return f" ({low} in each of {shares.steps})" if low == high else f" ({low} to {high} in {shares.steps} steps)"


def _percent(share: float) -> str:
    return "under 1%" if 0 < share < 0.01 else f"{share:.0%}"
