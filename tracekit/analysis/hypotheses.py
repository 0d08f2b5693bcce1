"""What an experiment's pairs of arms say: for each hypothesis its seconds, their interval, and a verdict.

The rule. A hypothesis is supported in a window when the 95% interval of its cost lies above zero and the mean cost is
at least `MIN_SHARE` of that window in the baseline (of step 1 for what step 1 takes beyond a warm step); it is refuted
when the interval's upper end is below that share; else, and below two pairs, it cannot be told here.

Beside what the arms differ by stands what the causes within the runs differ by: two ways to the same seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from tracekit.analysis.armruns import arm_row, inside_ns, reasons, used_summaries, window_ns
from tracekit.analysis.meaninterval import mean_interval
from tracekit.model.causes import Cause
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
    baseline = used_summaries(experiment, plan.baseline)
    excess, warm = (_mean(_times(baseline, window)) for window in (Window.EXCESS, Window.WARM))
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
        excess_ns=excess,
        warm_ns=warm,
        hypotheses=rows,
        arms=[arm_row(experiment, arm) for arm in plan.arms],
        warnings=_warnings(experiment),
    )


def effect(
    window: Window,
    slow: Mapping[int, int],
    fast: Mapping[int, int],
    *,
    scale: float,
    least: float,
    inside: int | None = None,
    why_none: str = "",
) -> Effect:
    """A cause's cost in one window from times by block: of the arm that has the cause, of the one that has not.

    `scale` is what the cost is a share of, `least` what it must be to count, `inside` what the causes within the runs
    differ by; `why_none` says why there are too few pairs. All times are in ns.
    """
    blocks = sorted(slow.keys() & fast.keys())
    differences = [slow[block] - fast[block] for block in blocks]
    found = mean_interval(differences)
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
        inside_ns=inside,
        share=None if found is None or scale <= 0 else found.mean / scale,
        verdict=verdict,
        reason=reason,
    )


def _hypothesis(experiment: Experiment, contrast: Contrast) -> HypothesisRow:
    effects = [_effect(experiment, contrast, window) for window in Window]
    first = effects[0]
    return HypothesisRow(
        hypothesis=contrast.hypothesis,
        claim=contrast.claim,
        slow=contrast.slow,
        fast=contrast.fast,
        check=contrast.check,
        effects=effects,
        verdict=first.verdict,
        reason=first.reason,
    )


def _effect(experiment: Experiment, contrast: Contrast, window: Window) -> Effect:
    slow, fast = (used_summaries(experiment, name) for name in (contrast.slow, contrast.fast))
    reference = used_summaries(experiment, experiment.plan.baseline) or slow
    # Beside a small excess every difference would be large: what matters is what a cause is of all of step 1.
    whole = Window.FIRST if window == Window.EXCESS else window
    why_none = _why_none(experiment, contrast)
    if not why_none and window in (Window.EXCESS, Window.WARM) and slow and not _times(slow, window):
        why_none = "no later step is warm: run more steps"
    return effect(
        window,
        _times(slow, window),
        _times(fast, window),
        scale=_mean(_times(reference, window)) or 0.0,
        least=MIN_SHARE * (_mean(_times(reference, whole)) or 0.0),
        inside=_inside(slow, fast, window, contrast.causes),
        why_none=why_none,
    )


def _inside(
    slow: Mapping[int, Summary], fast: Mapping[int, Summary], window: Window, causes: Sequence[Cause]
) -> int | None:
    """What these causes within the runs differ by, mean over the blocks that have both arms."""
    pairs = [
        (inside_ns(slow[block], window, causes), inside_ns(fast[block], window, causes))
        for block in slow.keys() & fast.keys()
    ]
    known = [more - less for more, less in pairs if more is not None and less is not None]
    return round(fmean(known)) if known else None


def _times(summaries: Mapping[int, Summary], window: Window) -> dict[int, int]:
    times = {block: window_ns(summary, window) for block, summary in summaries.items()}
    return {block: ns for block, ns in times.items() if ns is not None}


def _mean(times: Mapping[int, int]) -> int | None:
    return round(fmean(times.values())) if times else None


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


def _verdict_text(experiment: Experiment, rows: list[HypothesisRow], excess: int | None) -> str:
    """Plain sentences: the cold step's excess, what explains it, what does not, what cannot be told; what all pay."""
    sentences = []
    if excess is not None:
        arm = next(arm for arm in experiment.plan.arms if arm.name == experiment.plan.baseline)
        sentences.append(f"With {arm.doc}, step 1 takes {format_duration(excess)} more than a warm step.")
    causes = [row for row in rows if not row.check]
    for verdict, words in (
        (Verdict.SUPPORTED, "What makes the difference"),
        (Verdict.REFUTED, "What does not"),
        (Verdict.CANNOT_TELL, "What cannot be told here"),
    ):
        named = [_named(row, row.effect(Window.EXCESS)) for row in causes if row.verdict == verdict]
        if named:
            sentences.append(f"{words}: {', '.join(named)}.")
    every = [(row, effect) for row in causes if (effect := row.effect(Window.WARM)).verdict == Verdict.SUPPORTED]
    if every:
        sentences.append(f"What every warm step pays: {', '.join(_named(row, effect) for row, effect in every)}.")
    return " ".join(sentences)


def _named(row: HypothesisRow, effect: Effect) -> str:
    if effect.mean_ns is None or effect.low_ns is None or effect.high_ns is None:
        return row.hypothesis
    if effect.verdict != Verdict.SUPPORTED:
        return f"{row.hypothesis} (at most {format_duration(max(0, effect.high_ns))})"
    interval = f"{format_duration(effect.low_ns)} to {format_duration(effect.high_ns)}"
    return f"{row.hypothesis} ({format_duration(effect.mean_ns)}; 95% interval {interval})"


def _warnings(experiment: Experiment) -> list[str]:
    warnings = []
    planned = [run for run in experiment.runs if run.outcome == Outcome.PLANNED]
    if planned:
        warnings.append(f"{len(planned)} of {len(experiment.runs)} arms have not run yet: --resume continues")
    for arm in experiment.plan.arms:
        for reason in reasons([run for run in experiment.runs if run.arm == arm.name]):
            warnings.append(f"{arm.name}: {reason}")
    return warnings
