"""The summary of an experiment for a terminal: verdict, hypotheses, every difference, arms, what stood in the way."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from tracekit.model.experiment import ArmRow, Effect, ExperimentSummary, HypothesisRow, Verdict, Window
from tracekit.render.blocks import bullets, print_blocks, table, text_lines
from tracekit.render.plaintext import visible
from tracekit.units import DurationUnit, format_bytes

_COLUMNS = ("verdict", "pairs", "95% interval", "inside", "share")
_TABLES = {Window.EXCESS: "step 1 beyond a warm step", Window.WARM: "every warm step"}
"""The two questions: why step 1 takes longer, and what all steps pay."""
_ARMS = ("arm", "runs", "set-up", "step 1", "warm", "whole run", "disk")
_MARK = {Verdict.SUPPORTED: "green", Verdict.REFUTED: "red", Verdict.CANNOT_TELL: "yellow"}


def render_experiment(summary: ExperimentSummary, console: Console) -> None:
    """Print the summary within 80 columns; `console` decides where to, and whether in colour."""
    unit = _unit(summary)
    blocks: list[RenderableType] = [_head(summary), Text(visible(summary.verdict), style="bold")]
    for window, title in _TABLES.items() if summary.hypotheses else ():
        rows = hypothesis_rows(summary.hypotheses, window, unit)
        blocks.append(table((title, *_COLUMNS), rows, _note(summary, window, unit)))
    differences = difference_lines(summary.hypotheses, unit)
    if differences:
        blocks.append(text_lines([f"Every difference, {unit.name}, one a block", *differences]))
    arms = arm_rows(summary.arms, unit)
    if arms:
        blocks.append(table(_ARMS, arms, f"{unit.name}; medians over the runs used; disk: read in first onloads"))
    unknown = [f"{row.hypothesis}: {row.reason}" for row in summary.hypotheses if row.verdict == Verdict.CANNOT_TELL]
    blocks += [bullets("cannot tell", unknown, "yellow")] if unknown else []
    blocks += [bullets("warning", summary.warnings, "yellow")] if summary.warnings else []
    print_blocks(blocks, console)


def hypothesis_rows(rows: Sequence[HypothesisRow], window: Window, unit: DurationUnit) -> list[list[str]]:
    """A row a hypothesis: the verdict, and the effect in one window."""
    found = []
    for row in rows:
        effect = row.effect(window)
        mean, interval, share = _effect_cells(effect, unit)
        inside = "-" if effect.inside_ns is None else unit.text(effect.inside_ns)
        found.append([row.hypothesis, _short(effect.verdict), mean, interval, inside, share])
    return found


def _note(summary: ExperimentSummary, window: Window, unit: DurationUnit) -> str:
    whole = summary.excess_ns if window == Window.EXCESS else summary.warm_ns
    of = f" of {unit.text(whole)} with weights {summary.baseline}" if whole is not None else ""
    if window == Window.WARM:
        return f"{unit.name}; share:{of}"
    return f"{unit.name}; pairs: slow arm less fast arm; inside: the same by the runs' causes; share:{of}"


def difference_lines(rows: Sequence[HypothesisRow], unit: DurationUnit) -> list[str]:
    """A line for each hypothesis that has a pair, and one for each window: all differences, the mean, the interval."""
    found = []
    for row in rows:
        effects = [effect for effect in row.effects if effect.differences_ns]
        found += [f"  {row.hypothesis}: {row.slow} - {row.fast}"] if effects else []
        for effect in effects:
            values = "  ".join(unit.text(value) for value in effect.differences_ns)
            mean, interval, _ = _effect_cells(effect, unit)
            found.append(f"    {effect.window:<13}  {values}   mean {mean}, {interval}, {_short(effect.verdict)}")
    return found


def arm_rows(arms: Sequence[ArmRow], unit: DurationUnit) -> list[list[str]]:
    """A row for each arm that is not left out; void and failed runs are counted beside the used ones."""
    return [
        [
            arm.arm,
            _runs(arm),
            *("-" if ns is None else unit.text(ns) for ns in (arm.setup_ns, arm.first_ns, arm.warm_ns, arm.run_ns)),
            "-" if arm.first_read_bytes is None else format_bytes(arm.first_read_bytes),
        ]
        for arm in arms
        if not arm.left_out
    ]


def _short(verdict: Verdict) -> str:
    return verdict.value.removesuffix(" here")


def _effect_cells(effect: Effect, unit: DurationUnit) -> list[str]:
    if effect.mean_ns is None or effect.low_ns is None or effect.high_ns is None:
        return ["-", "-", "-"]
    interval = f"{unit.text(effect.low_ns)} to {unit.text(effect.high_ns)}"
    return [unit.text(effect.mean_ns), interval, "-" if effect.share is None else f"{effect.share:.0%}"]


def _runs(arm: ArmRow) -> str:
    counts = {"void": arm.void, "failed": arm.failed, "to run": arm.planned}
    return ", ".join([str(arm.used), *(f"{count} {what}" for what, count in counts.items() if count)])


def _head(summary: ExperimentSummary) -> Text:
    device = "emulated device" if summary.emulated else summary.device_name
    known = [text for text in (summary.pipeline_class or summary.workload, summary.mode, device) if text]
    head = Text(visible(", ".join(known)), style="bold cyan")
    facts = f"experiment {summary.name}, {summary.finished} of {summary.turns} arms"
    return head.append("\n" + visible(facts), style="not bold dim default")


def _unit(summary: ExperimentSummary) -> DurationUnit:
    """One unit for the whole: that of the longest step, or of the interval that reaches furthest."""
    longest = [arm.first_ns or 0 for arm in summary.arms]
    for effect in (effect for row in summary.hypotheses for effect in row.effects if effect.window == Window.FIRST):
        bounds = [ns for ns in (effect.low_ns, effect.high_ns) if ns is not None]
        longest += [abs(ns) for ns in (*effect.differences_ns, *bounds)]
    return DurationUnit.fitting(max(longest, default=0))
