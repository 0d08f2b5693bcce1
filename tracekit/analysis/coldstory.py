"""Say in plain sentences what a cold start cost, why, and whether weights paged: the verdict's second half."""

from __future__ import annotations

from collections.abc import Iterator

from tracekit.model import Cause, ColdWarm, HostMemory, Paging, Phase, StepRow, Summary
from tracekit.model.typical import always_pages, step_causes, typical_step
from tracekit.units import format_bytes, format_duration

SLIGHT = 0.05
"""A share of a step below this is not worth naming as where the time goes."""
_TELLING = 0.1
"""Share of step 1's excess from which a cause is named."""
_MOST_NAMED = 3
_NAMES = {
    Cause.DISK: "disk reads",
    Cause.MAPPING: "mapping pages that were in memory",
    Cause.STAGING: "staging of pageable memory",
    Cause.LINK: "the link",
    Cause.FIRST_USE: "first use of kernels and libraries",
    Cause.GARBAGE: "Python's garbage collector",
    Cause.HOOKS: "Python of the offload hooks",
    Cause.MODEL: "model code",
    Cause.TRACEKIT: "tracekit's own work",
}
"""Where the cause's own name reads badly in a sentence."""


def cold_story(summary: Summary) -> Iterator[str]:
    """Sentences on step 1 against the warm ones, what made it slower, paging, and set-up."""
    yield _first_step(summary)
    named = _excess(summary)
    if named:
        yield named
    paging = _paging(summary, slower=bool(named))
    if paging:
        yield paging
    setup = _setup(summary)
    if setup:
        yield setup


def is_slower(summary: Summary) -> bool:
    """Whether step 1 took longer than every warm step, and more than slightly longer than their median."""
    cold = summary.cold_warm
    if cold is None or cold.warm_step_ns is None or cold.warm_max_ns is None:
        return False
    return cold.first_step_ns > max(cold.warm_max_ns, (1 + SLIGHT) * cold.warm_step_ns)


def _first_step(summary: Summary) -> str:
    cold = summary.cold_warm
    if cold is None or cold.warm_step_ns is None:
        return "There is no warm sample: only one step was recorded."
    first = f"Step 1 took {format_duration(cold.first_step_ns)}"
    kind = "later" if always_pages(summary) or summary.paging is None else "warm"
    if cold.warm_samples == 1:
        later = f"the one {kind} step ({format_duration(cold.warm_step_ns)})"
    else:
        later = f"the median of {cold.warm_samples} {kind} steps ({format_duration(cold.warm_step_ns)})"
    if not is_slower(summary):
        return f"{first}, {_alike(cold, cold.warm_step_ns, later, kind)}: no cold start shows."
    ratio = cold.first_step_ns / max(cold.warm_step_ns, 1)
    return f"{first}, {ratio:.1f} times {later}." if ratio < 10 else f"{first}, {ratio:.0f} times {later}."


def _alike(cold: ColdWarm, warm_ns: int, later: str, kind: str) -> str:
    """How a first step that is not slower compares."""
    low, high = cold.warm_min_ns, cold.warm_max_ns
    if cold.first_step_ns <= warm_ns:
        return f"no more than {later}"
    if low is None or high is None or cold.first_step_ns > high:
        return f"hardly more than {later}"
    return f"within what {cold.warm_samples} {kind} steps took ({format_duration(low)} to {format_duration(high)})"


def _excess(summary: Summary) -> str:
    """What step 1 has more of than the typical warm step, the largest causes first."""
    typical = typical_step(summary)
    if typical is None or not is_slower(summary):
        return ""
    first = summary.steps[0]
    more = first.wall_ns - typical.wall_ns
    gained = _gained(summary, first, typical)
    named = [(cause, ns) for cause, ns in gained if ns >= _TELLING * more][:_MOST_NAMED]
    if not named:
        return ""
    texts = [
        f"{format_duration(ns)} on {_NAMES.get(cause, cause)}{_disk_detail(summary, cause)}" for cause, ns in named
    ]
    texts[0] = texts[0].replace(" on ", " more on ", 1)
    listed = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
    return f"It spent {listed}."


def _gained(summary: Summary, first: StepRow, typical: StepRow) -> list[tuple[Cause, int]]:
    """How much more of each cause the first step has, the most first; nothing where a step's causes are unknown."""
    cold, warm = step_causes(summary, first), step_causes(summary, typical)
    if not cold or not warm:
        return []
    gained = [
        (cause, row.duration_ns - (warm[cause].duration_ns if cause in warm else 0)) for cause, row in cold.items()
    ]
    return sorted(gained, key=lambda pair: -pair[1])


def _disk_detail(summary: Summary, cause: Cause) -> str:
    """How much of the denoiser's weights came from disk at their first onloads."""
    if cause is not Cause.DISK:
        return ""
    rows = [row for row in summary.transfers if not row.parameter and row.fqn in summary.denoisers]
    read, size = sum(row.first_read_bytes or 0 for row in rows), sum(row.weight_bytes for row in rows)
    return f" ({format_bytes(min(read, size))} of {format_bytes(size)} came from disk)" if read else ""


def _paging(summary: Summary, *, slower: bool) -> str:
    """Paging where it goes beyond a cold start that is explained already."""
    evidence = summary.paging
    if evidence is None:
        return ""
    match evidence.paging:
        case Paging.ALWAYS:
            return f"No step is warm, the run is always paging: {evidence.reason}."
        case Paging.LATER:
            return f"Paging came back: {evidence.reason}."
        case Paging.UNKNOWN if is_slower(summary):
            return f"Whether weights paged is not known: {evidence.reason}."
        case Paging.NEVER if evidence.is_trace:
            return f"Next to no weights paged: {evidence.reason}."
        case Paging.NEVER if is_slower(summary):
            return f"Paging is no cause of it: {evidence.reason}."
        case Paging.COLD_ONLY if not slower:
            return f"Weights paged once: {evidence.reason}."
    return ""


def _setup(summary: Summary) -> str:
    """What set-up took where the cold cost of the weights is in it, or where it is longer than step 1."""
    weights = sum(row.weight_bytes for row in summary.modules)
    moved = [phase for phase in summary.phases if phase.phase == Phase.SETUP]
    copied = sum(phase.h2d_bytes for phase in moved)
    took = f"Set-up took {format_duration(summary.setup_ns)}"
    if weights and copied > weights / 2:
        copying = format_duration(sum(phase.copy_ns for phase in moved))
        return (
            f"{took}: {format_bytes(copied)} of weights went to the device there ({copying} of copying), "
            "so that is where a cold start shows, not in step 1."
        )
    if summary.cold_warm is None or summary.setup_ns <= summary.cold_warm.first_step_ns:
        return ""
    if summary.h2d_bytes_by_memory.get(HostMemory.PINNED, 0) > summary.h2d_bytes / 2:
        return f"{took}: copies come from page-locked memory, and what filling it cost is there, not in step 1."
    return f"{took}."
