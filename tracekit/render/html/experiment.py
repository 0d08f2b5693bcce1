"""An experiment as one HTML file: the hypotheses' verdicts first, with their seconds and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tracekit
from tracekit.model import Cause
from tracekit.model.experiment import ArmRow, Effect, ExperimentSummary, HypothesisRow, Verdict, Window
from tracekit.render.figures.experiment import experiment_figures
from tracekit.render.html.blocks import Table
from tracekit.render.html.page import render_charted
from tracekit.render.plaintext import visible
from tracekit.units import DurationUnit, format_bytes, format_duration, format_share

_MARKS = {Verdict.SUPPORTED: "✓", Verdict.REFUTED: "✕", Verdict.CANNOT_TELL: "?"}
_SECTIONS = (("verdict", "Verdicts"), ("effects", "Effects"), ("arms", "Arms"), ("causes", "Causes"))


def render_experiment_page(summary: ExperimentSummary) -> str:
    """The whole page."""
    figures = experiment_figures(summary)
    causes = _causes_table(summary.arms)
    view = {
        "title": _title(summary),
        "version": tracekit.__version__,
        "sections": [pair for pair in _SECTIONS if pair[0] != "causes" or causes],
        "head": _head(summary),
        "lede": visible(summary.verdict),
        "hypotheses": [_hypothesis(row) for row in summary.hypotheses],
        "heights": {name: figure["layout"]["height"] for name, figure in figures.items()},
        "effects_table": _effects_table(summary.hypotheses),
        "effects_title": _effects_title(summary.hypotheses),
        "arms_title": _arms_title(summary.arms),
        "arms_table": _arms_table(summary.arms),
        "causes_table": causes,
        "warnings": [visible(text) for text in summary.warnings],
    }
    return render_charted("experiment.html.j2", {"figures": figures, "runs": [], "totals": []}, view)


def _title(summary: ExperimentSummary) -> str:
    """What makes step 1 longer, the costliest first, and what every step pays most for."""
    longer, every = (_held(summary.hypotheses, window) for window in (Window.EXCESS, Window.WARM))
    told = [f"{name} makes step 1 longer by {cost}" for name, cost in longer[:1]]
    told += [f"{name} by {cost}" for name, cost in longer[1:2]]
    told += [f"every warm step pays {cost} for {name}" for name, cost in every[:1]]
    first, *others = told or ["No hypothesis is supported by what has been run"]
    return visible(f"{first[:1].upper()}{first[1:]}{''.join(f', {other}' for other in others)}")


def _held(rows: Sequence[HypothesisRow], window: Window) -> list[tuple[str, str]]:
    """The hypotheses that are supported in a window, and their cost, the costliest first."""
    effects = [(row.hypothesis, row.effect(window)) for row in rows if not row.check]
    held = [(name, effect.mean_ns or 0) for name, effect in effects if effect.verdict is Verdict.SUPPORTED]
    return [(name, format_duration(cost)) for name, cost in sorted(held, key=lambda pair: -pair[1])]


def _effects_title(rows: Sequence[HypothesisRow]) -> str:
    causes = [row for row in rows if not row.check]
    told = [row for row in causes if row.verdict is not Verdict.CANNOT_TELL]
    held = sum(row.verdict is Verdict.SUPPORTED for row in told)
    return (
        f"Of what step 1 takes beyond a warm step, {held} of {len(causes)} causes are shown, {len(told) - held} "
        f"refuted, {len(causes) - len(told)} cannot be told"
    )


def _arms_title(arms: Sequence[ArmRow]) -> str:
    first = [arm.first_ns for arm in arms if arm.first_ns is not None]
    if not first:
        return "The arms"
    low, high = format_duration(min(first)), format_duration(max(first))
    return f"Step 1 takes {low} to {high}, depending on the arm" if low != high else f"Step 1 takes {low}"


def _head(summary: ExperimentSummary) -> list[str]:
    device = "emulated device" if summary.emulated else summary.device_name
    words = [summary.pipeline_class or summary.workload, summary.name, summary.mode, device]
    return [visible(word) for word in (*words, f"{summary.finished} of {summary.turns} turns") if word]


def _hypothesis(row: HypothesisRow) -> dict[str, Any]:
    effect, warm = row.effect(Window.EXCESS), row.effect(Window.WARM)
    return {
        "name": visible(row.hypothesis),
        "claim": visible(row.claim),
        "verdict": str(row.verdict),
        "mark": _MARKS[row.verdict],
        "tone": row.verdict.name.lower().replace("_", "-"),
        "gain": _cost(effect),
        "basis": _basis(effect),
        "arms": visible(f"{row.slow} less {row.fast}"),
        "reason": visible(row.reason),
        "warm": f"{_cost(warm)} ({_interval(warm)}), {warm.verdict}" if _cost(warm) else "",
    }


def _cost(effect: Effect) -> str:
    """What a cause that is shown costs; of another what it costs at most, as its mean alone would read like a result.

    Nothing where too few pairs ran for a bound.
    """
    if effect.verdict is Verdict.SUPPORTED and effect.mean_ns is not None:
        return format_duration(effect.mean_ns)
    return "" if effect.high_ns is None else f"at most {format_duration(max(0, effect.high_ns))}"


def _basis(effect: Effect) -> str:
    """What the card's figure is of, and what it rests on."""
    if effect.mean_ns is None:
        return ""
    mean = "" if effect.verdict is Verdict.SUPPORTED else f" mean {format_duration(effect.mean_ns)},"
    inside = "" if effect.inside_ns is None else f"; by the causes inside the runs {format_duration(effect.inside_ns)}"
    return f"of step 1 beyond a warm step,{mean} 95% interval {_interval(effect)}{inside}"


def _interval(effect: Effect) -> str:
    if effect.low_ns is None or effect.high_ns is None:
        return "not known"
    return f"{format_duration(effect.low_ns)} to {format_duration(effect.high_ns)}"


def _effects_table(rows: Sequence[HypothesisRow]) -> Table:
    texts = [
        [
            row.hypothesis,
            str(effect.window),
            str(effect.verdict),
            "-" if effect.mean_ns is None else format_duration(effect.mean_ns),
            _interval(effect),
            "-" if effect.inside_ns is None else format_duration(effect.inside_ns),
            "-" if effect.share is None else format_share(effect.share),
            ", ".join(format_duration(value) for value in effect.differences_ns),
        ]
        for row in rows
        for effect in row.effects
    ]
    header = ["hypothesis", "window", "verdict", "mean", "95% interval", "inside", "share", "difference in each block"]
    note = "inside: what the causes within the runs differ by; share: of the same window in the baseline"
    return Table("Slow arm less fast arm, paired within blocks", header, texts, texts=3, note=note)


def _arms_table(arms: Sequence[ArmRow]) -> Table:
    rows = [
        [
            arm.arm,
            arm.doc if not arm.left_out else f"left out: {arm.left_out}",
            _runs(arm),
            *(
                "-" if value is None else format_duration(value)
                for value in (arm.setup_ns, arm.first_ns, arm.warm_ns, arm.run_ns)
            ),
            "-" if arm.first_read_bytes is None else format_bytes(arm.first_read_bytes),
        ]
        for arm in arms
    ]
    header = ["arm", "what it is", "runs", "set-up", "step 1", "warm step", "whole run", "from disk at first"]
    return Table("Medians over the runs that count", header, rows, texts=2)


def _runs(arm: ArmRow) -> str:
    counts = {"void": arm.void, "failed": arm.failed, "to run": arm.planned}
    return ", ".join([str(arm.used), *(f"{count} {what}" for what, count in counts.items() if count)])


def _causes_table(arms: Sequence[ArmRow]) -> Table | None:
    known = [arm for arm in arms if arm.first_causes_ns]
    if not known:
        return None
    unit = DurationUnit.fitting(max(max(arm.first_causes_ns.values()) for arm in known))
    names = [cause for cause in Cause if any(cause in arm.first_causes_ns for arm in known)]
    rows = [[str(name), *(unit.text(arm.first_causes_ns.get(name, 0)) for arm in known)] for name in names]
    note = f"{unit.name}; medians of each cause, so they need not add up to the median step"
    return Table("Step 1 by cause", ["cause", *(arm.arm for arm in known)], rows, note=note)
