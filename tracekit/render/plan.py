"""A plan as text for a terminal of 80 columns: configurations, the best, break-evens, what to keep, code."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from rich.console import Console, RenderableType
from rich.text import Text

from tracekit.model.plan import BreakEven, Drift, Estimate, OffloadPlan, PlanRow, VerifiedRow
from tracekit.render.blocks import bullets, print_blocks, table, text_lines
from tracekit.render.findings import gain_words, together
from tracekit.render.plaintext import shorten_left, shorten_right, visible
from tracekit.units import format_bytes, format_duration, format_memory, format_share

MAX_MODULES = 8
DRIFT_SHOWN = 1.1
"""A machine's speed is said to have changed from so much on, either way."""
_NAME = 24


def render_plan(plan: OffloadPlan, console: Console) -> None:
    """Print a plan."""
    blocks: list[RenderableType] = [_head(plan)]
    blocks.append(
        table(
            ["configuration", "set-up", "step 1", "warm step", "", "device", "host"],
            [_costs(row) for row in plan.rows if row.prediction],
            "+-: half of what the measured spreads leave open; device: the most it may take",
        )
    )
    totals = [_totals(row, plan) for row in plan.rows if row.prediction and row.fits]
    if totals:
        columns = ["total of N steps", *(f"{steps:,}" for steps in plan.steps)]
        blocks.append(table(columns, totals, "*: the least"))
    misfits = [line for row in plan.rows if (line := misfit(row))]
    if misfits:
        blocks.append(bullets("no", misfits, "red"))
    if plan.limit is not None:
        blocks.append(text_lines([limit_line(plan)]))
    if plan.break_even:
        blocks.append(bullets("pays", [break_even_line(each) for each in plan.break_even], "green"))
    if plan.residents is not None:
        blocks += [text_lines([f"Keep  {plan.residents.reason}"]), _modules(plan)]
    blocks += _verified(plan)
    if plan.findings:
        found = [f"{finding.slug}: {gain_words(finding)}" for finding in plan.findings]
        alternatives = [line] if (line := together(plan.findings)) else []
        blocks.append(bullets("change", [*found, *alternatives], "green"))
    if plan.notes:
        blocks.append(bullets("note", plan.notes, "yellow"))
    blocks.append(bullets("-", plan.assumptions, "dim"))
    print_blocks(blocks, console)
    code = best_code(plan)
    if code:
        console.print(Text(f"\n{code[0]}, to paste:", style="bold cyan"))
        # Never wrapped: it is to be copied.
        console.print(Text(visible_code(code[1])), soft_wrap=True)


def misfit(row: PlanRow) -> str:
    """Why a configuration is not recommended; empty where it fits."""
    name = row.configuration.name
    if row.prediction is None:
        return f"{name}: not predicted, since {row.reason}"
    missing = []
    if row.missing_device_bytes:
        missing.append(f"{format_memory(row.missing_device_bytes)} of device memory")
    if row.missing_host_bytes:
        missing.append(f"{format_memory(row.missing_host_bytes)} of host memory")
    return f"{name}: does not fit, {' and '.join(missing)} too much" if missing else ""


def limit_line(plan: OffloadPlan) -> str:
    """The physical limit of a warm step, and how far the best is from it."""
    limit = plan.limit
    assert limit is not None
    parts = [f"computing {format_duration(limit.compute_ns)}"]
    if limit.link_ns is not None:
        kept = f" with {format_memory(limit.kept_bytes)} kept" if limit.kept_bytes else ""
        parts.append(f"{format_bytes(limit.streamed_bytes)} over the link{kept} {format_duration(limit.link_ns)}")
    line = f"Limit  a warm step takes at least {format_duration(limit.step_ns)} on this machine ({', '.join(parts)})"
    warm = [row.prediction.warm_step_ns.value for row in plan.rows if row.fits and row.prediction]
    if warm and limit.step_ns:
        line += f"; the best that fits takes {min(warm) / limit.step_ns:.1f} times that"
    return line


def break_even_line(each: BreakEven) -> str:
    """From how many steps one configuration is ahead, and the most that it can save."""
    saves = f"{format_duration(each.saved_per_step_ns.value)} a warm step, at most {format_share(each.saved_share)}"
    if each.steps is None:
        return f"{each.later} is never ahead of {each.sooner}; it saves {saves}"
    if each.steps <= 1:
        return f"{each.later} is ahead of {each.sooner} from the first step; it saves {saves}"
    bounds = {each.steps_low, each.steps_high} - {each.steps}
    spread = f" ({each.steps_low} to {each.steps_high or 'never'})" if bounds else ""
    return f"{each.later} is ahead of {each.sooner} from {each.steps:,} steps{spread}; it saves {saves}"


def best_code(plan: OffloadPlan) -> tuple[str, str] | None:
    """The configuration that is best at the most steps asked for, and its code."""
    name = plan.best.get(max(plan.steps, default=0), "")
    row = next((row for row in plan.rows if row.configuration.name == name), None)
    return (name, row.code) if row is not None and row.code else None


def visible_code(code: str) -> str:
    """Code with control characters shown, line by line."""
    return "\n".join(visible(line) for line in code.rstrip("\n").split("\n"))


def _head(plan: OffloadPlan) -> RenderableType:
    device = "the emulated device" if plan.emulated else "this machine"
    head = Text(f"Plan for {visible(plan.workload)} on {device}", style="bold cyan")
    caps = [f"measured: {plan.measured}"]
    caps += [f"{format_memory(plan.vram_bytes)} of device memory"] if plan.vram_bytes else []
    caps += [f"{format_memory(plan.ram_bytes)} of host memory"] if plan.ram_bytes else []
    return head.append("\n" + visible(", ".join(caps)), style="not bold dim default")


def _costs(row: PlanRow) -> list[str]:
    prediction = row.prediction
    assert prediction is not None
    return [
        shorten_right(row.configuration.name, _NAME),
        format_duration(prediction.setup_ns.value),
        format_duration(prediction.first_step_ns.value),
        format_duration(prediction.warm_step_ns.value),
        _spread(prediction.warm_step_ns),
        format_memory(prediction.device_bytes.high),
        format_memory(prediction.host_bytes.value),
    ]


def _totals(row: PlanRow, plan: OffloadPlan) -> list[str]:
    name = row.configuration.name
    cells = [
        format_duration(row.totals[steps].value) + ("*" if plan.best.get(steps) == name else " ")
        for steps in plan.steps
    ]
    return [shorten_right(name, _NAME), *cells]


def _spread(estimate: Estimate) -> str:
    if estimate.value <= 0:
        return ""
    share = (estimate.high - estimate.low) / 2 / estimate.value
    return "+-<1%" if 0 < share < 0.01 else f"+-{share:.0%}"


def _modules(plan: OffloadPlan) -> RenderableType:
    assert plan.residents is not None
    modules = sorted(plan.residents.modules, key=lambda module: -module.saved_ns)
    rows = [
        [shorten_left(module.fqn, 44), format_bytes(module.size_bytes), format_duration(module.saved_ns)]
        for module in modules[:MAX_MODULES]
    ]
    more = len(modules) - MAX_MODULES
    return table(["kept module", "size", "saves a step"], rows, f"{more:,} more" if more > 0 else "")


def _verified(plan: OffloadPlan) -> list[RenderableType]:
    if not plan.verified:
        return []
    cells = [
        [
            shorten_right(row.configuration, _NAME),
            row.quantity,
            amount(row, row.predicted.value),
            amount(row, row.measured),
            f"{row.error:+.0%}",
        ]
        for row in plan.verified
    ]
    note = "error: predicted against measured"
    rows = table(["verified", "", "predicted", "measured", "error"], cells, note)
    return [rows, *([bullets("machine", drifts, "yellow")] if (drifts := drift_lines(plan.drifts)) else [])]


def drift_lines(drifts: Sequence[Drift]) -> list[str]:
    """How fast the machine was while each configuration was verified, where that was measured."""
    lines = [f"{drift.configuration}: {_drift_words(drift)}" for drift in drifts if drift.slower]
    return lines + [f"{drift.configuration}: {words}" for drift in drifts if (words := _host_words(drift))]


def _drift_words(drift: Drift) -> str:
    before = "as before the profiled run"
    off = [(f"{ratio:.2f}", piece) for piece, ratio in drift.slower.items() if abs(log(ratio)) > log(DRIFT_SHOWN)]
    if not off:
        return f"just before it, the machine was as fast {before}, within {DRIFT_SHOWN - 1:.0%}"
    (first, piece), *others = off
    more = "".join(f", {times} for {other}" for times, other in others)
    return f"just before it, the machine took {first} times as long {before} for {piece}{more}"


def _host_words(drift: Drift) -> str:
    """What was predicted for a host as fast as it was then, where that makes a difference."""
    row = drift.warm_step
    if drift.host is None or row is None or abs(log(drift.host)) <= log(DRIFT_SHOWN):
        return ""
    return (
        f"in its warm steps the same Python took {drift.host:.2f} times as long as in the profiled run's; for such a "
        f"host a warm step is predicted to take {amount(row, row.predicted.value)}, which is {row.error:+.0%}"
    )


def amount(row: VerifiedRow, value: int) -> str:
    """A verified quantity in its unit."""
    return format_memory(value) if row.quantity.endswith("memory") else format_duration(value)
