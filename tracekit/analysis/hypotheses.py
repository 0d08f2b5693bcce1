"""What an experiment's pairs of arms say: for each hypothesis its seconds, their interval, and a verdict.

The rule. A hypothesis is supported in a window when the 95% interval of its cost lies above zero and the mean cost is
at least `MIN_SHARE` of that window in the baseline; it is refuted when the interval's upper end is below that share;
else, and below two pairs, it cannot be told here. The verdict on a hypothesis is that on step 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from tracekit.analysis.armruns import arm_row, reasons, used_summaries, window_ns
from tracekit.analysis.meaninterval import mean_interval
from tracekit.model.experiment import (
    Contrast,
    Effect,
    Experiment,
    ExperimentSummary,
    HypothesisRow,
    Outcome,
    Verdict,
    Window,
)
from tracekit.model.summary import Summary
from tracekit.units import format_duration

MIN_SHARE = 0.05
"""What a cause must cost, against the baseline's same window, to count."""


def summarize_experiment(experiment: Experiment) -> ExperimentSummary:
    """The hypotheses, the arms and the verdict of an experiment, finished or not."""
    plan = experiment.plan
    rows = [_hypothesis(experiment, contrast) for contrast in plan.contrasts]
    known = next((run.summary for run in experiment.runs if run.summary is not None), None)
    excess = _excess(used_summaries(experiment, plan.baseline))
    finished = sum(run.outcome != Outcome.PLANNED for run in experiment.runs)
    return ExperimentSummary(
        name=plan.name,
        workload=plan.workload,
        pipeline_class=known.pipeline_class if known else "",
        mode=known.mode if known else "",
        device_name=known.device_name if known else "",
        emulated=bool(known and known.emulated),
        finished=finished,
        turns=len(experiment.runs),
        verdict=_verdict_text(experiment, rows, excess),
        baseline=plan.baseline,
        excess_ns=None if excess is None else round(excess),
        hypotheses=rows,
        arms=[arm_row(experiment, arm) for arm in plan.arms],
        warnings=_warnings(experiment),
    )


def effect(
    window: Window, slow: Mapping[int, int], fast: Mapping[int, int], reference: Mapping[int, int], why_none: str
) -> Effect:
    """A cause's cost in one window from times by block: of the arm that has the cause, of the one that has not.

    `reference` are the baseline's times, which the cost is a share of; `why_none` says why there are too few pairs.
    """
    blocks = sorted(slow.keys() & fast.keys())
    differences = [slow[block] - fast[block] for block in blocks]
    found = mean_interval(differences)
    scale = fmean((reference or slow).values()) if reference or slow else 0.0
    least = MIN_SHARE * scale
    if found is None:
        verdict, reason = Verdict.CANNOT_TELL, why_none or f"{len(blocks)} pair(s), and two are needed: run more blocks"
    elif found.low > 0 and found.mean >= least:
        verdict, reason = Verdict.SUPPORTED, f"the interval lies above zero, the mean above {format_duration(least)}"
    elif found.high < least:
        verdict, reason = Verdict.REFUTED, f"the interval ends below {format_duration(least)}"
    else:
        verdict = Verdict.CANNOT_TELL
        reason = f"the interval reaches from below to above {format_duration(least)}: more blocks narrow it"
    return Effect(
        window=window,
        blocks=blocks,
        differences_ns=differences,
        mean_ns=None if found is None else round(found.mean),
        low_ns=None if found is None else round(found.low),
        high_ns=None if found is None else round(found.high),
        method="" if found is None else found.method,
        share=None if found is None or scale <= 0 else found.mean / scale,
        verdict=verdict,
        reason=reason,
    )


def _hypothesis(experiment: Experiment, contrast: Contrast) -> HypothesisRow:
    slow, fast = (used_summaries(experiment, name) for name in (contrast.slow, contrast.fast))
    baseline = used_summaries(experiment, experiment.plan.baseline)
    why_none = _why_none(experiment, contrast)
    effects = [
        effect(window, _times(slow, window), _times(fast, window), _times(baseline, window), why_none)
        for window in Window
    ]
    first, warm = effects[0], effects[1]
    excess_ns = _excess_of_cause(first, warm)
    total = _excess(baseline)
    return HypothesisRow(
        hypothesis=contrast.hypothesis,
        claim=contrast.claim,
        slow=contrast.slow,
        fast=contrast.fast,
        effects=effects,
        excess_ns=None if excess_ns is None else round(excess_ns),
        excess_share=None if excess_ns is None or total is None or total <= 0 else excess_ns / total,
        verdict=first.verdict,
        reason=first.reason,
    )


def _times(summaries: Mapping[int, Summary], window: Window) -> dict[int, int]:
    times = {block: window_ns(summary, window) for block, summary in summaries.items()}
    return {block: ns for block, ns in times.items() if ns is not None}


def _excess(summaries: Mapping[int, Summary]) -> float | None:
    """The mean excess of step 1 over the warm step."""
    first, warm = _times(summaries, Window.FIRST), _times(summaries, Window.WARM)
    blocks = first.keys() & warm.keys()
    return fmean(first[block] - warm[block] for block in blocks) if blocks else None


def _excess_of_cause(first: Effect, warm: Effect) -> float | None:
    """What a cause costs step 1 beyond a warm step; None where either cannot be told."""
    if first.mean_ns is None or warm.mean_ns is None:
        return None
    return first.mean_ns - warm.mean_ns


def _why_none(experiment: Experiment, contrast: Contrast) -> str:
    """Why there cannot be pairs of a contrast: an arm left out, void or failed; empty where they may yet come."""
    for name in (contrast.slow, contrast.fast):
        if name in experiment.plan.left_out:
            return experiment.plan.left_out[name]
        runs = [run for run in experiment.runs if run.arm == name]
        for reason in reasons(runs):
            outcome = next(run.outcome for run in runs if run.reason == reason)
            return f"{name} is {outcome}: {reason}"
    return ""


def _verdict_text(experiment: Experiment, rows: list[HypothesisRow], excess: float | None) -> str:
    """Plain sentences: the cold step's excess, what explains it, what does not, what cannot be told."""
    sentences = []
    if excess is not None:
        arm = next(arm for arm in experiment.plan.arms if arm.name == experiment.plan.baseline)
        sentences.append(f"With {arm.doc}, step 1 takes {format_duration(excess)} more than a warm step.")
    for verdict, words in (
        (Verdict.SUPPORTED, "Causes of its time, by experiment"),
        (Verdict.REFUTED, "Refuted"),
        (Verdict.CANNOT_TELL, "Cannot be told here"),
    ):
        named = [_named(row) for row in rows if row.verdict == verdict]
        if named:
            sentences.append(f"{words}: {', '.join(named)}.")
    return " ".join(sentences)


def _named(row: HypothesisRow) -> str:
    mean = row.effects[0].mean_ns
    if mean is None or row.verdict == Verdict.CANNOT_TELL:
        return row.hypothesis
    share = "" if row.excess_share is None else f", {row.excess_share:.0%} of the excess"
    return f"{row.hypothesis} ({format_duration(mean)}{share})"


def _warnings(experiment: Experiment) -> list[str]:
    warnings = []
    planned = [run for run in experiment.runs if run.outcome == Outcome.PLANNED]
    if planned:
        warnings.append(f"{len(planned)} of {len(experiment.runs)} arms have not run yet: --resume continues")
    for arm in experiment.plan.arms:
        for reason in reasons([run for run in experiment.runs if run.arm == arm.name]):
            warnings.append(f"{arm.name}: {reason}")
    return warnings
