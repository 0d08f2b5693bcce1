"""What the page shows, as texts for its templates and as data for its script."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tracekit.model.finding import Finding
from tracekit.model.plan import TYPICAL_STEPS
from tracekit.model.report import CheckState, Report, RunReport, StepParts, TotalLine
from tracekit.render.figures import comparison_figures, run_figures
from tracekit.render.figures.causes import part_names
from tracekit.render.figures.heat import HEAT_NAMES
from tracekit.render.figures.palette import LINE_ROLES, role
from tracekit.render.figures.totals import STEPS
from tracekit.render.findings import gain_words, headline, together
from tracekit.render.html.blocks import Table
from tracekit.render.html.modules import MAX_ROWS, STATIC_ROWS, module_table
from tracekit.render.html.tables import (
    bandwidth_table,
    causes_table,
    memory_table,
    residency_table,
    steps_table,
    total_text,
    totals_table,
    verified_table,
    waterfall_table,
)
from tracekit.render.html.trust import MARKS, command_line, paging_facts, provenance
from tracekit.render.html.verdict import bars_table, facts, first_and_warm, step_bars
from tracekit.render.memoryholders import memory_holder_lines
from tracekit.render.plaintext import visible
from tracekit.render.plan import drift_lines, misfit


def page_view(report: Report) -> dict[str, Any]:
    """The templates' variables."""
    return {
        "title": visible(report.title),
        "version": report.runs[0].manifest.tracekit_version,
        "runs": [_named(_run_view(run, index), len(report.runs) > 1) for index, run in enumerate(report.runs)],
        "several": len(report.runs) > 1,
        "charts": sorted(comparison_figures(report)),
        "heights": {name: figure["layout"]["height"] for name, figure in comparison_figures(report).items()},
        "break_even": _capital(visible(report.break_even)),
        "compared": visible(report.compared),
        "ranges": visible(report.ranges),
        "totals_table": totals_table(report.totals) if report.totals else None,
        "causes_table": causes_table(report.runs) if len(report.runs) > 1 else None,
        "all_steps_table": steps_table([run for run in report.runs if run.steps]) if len(report.runs) > 1 else None,
        "all_steps_legend": _legend([step for run in report.runs for step in run.steps]),
        "default_steps": TYPICAL_STEPS,
        "max_steps": STEPS,
        "marks": MARKS,
        "heat_names": HEAT_NAMES,
        "sections": _sections(len(report.runs) > 1),
    }


def page_data(report: Report) -> dict[str, Any]:
    """What the script draws and sorts."""
    rows = MAX_ROWS // len(report.runs)
    return {
        "figures": comparison_figures(report),
        "runs": [{"figures": run_figures(run), "modules": module_table(run, rows)} for run in report.runs],
        "totals": [_total(line, index) for index, line in enumerate(report.totals)],
    }


def _sections(several: bool) -> list[tuple[str, str]]:
    """What the page's head links to."""
    if several:
        ids = [("verdict", "Verdicts"), ("all-steps", "Steps"), ("compared", "Causes"), ("break-even", "Break-even")]
        return [*ids, ("run-0", "Each run")]
    return [
        ("change", "Change"),
        ("cold", "Cold start"),
        ("steps", "Steps"),
        ("heat", "Heat map"),
        ("residency", "Residency"),
        ("bandwidth", "Bandwidth"),
        ("memory", "Memory"),
        ("break-even", "Break-even"),
        ("modules", "Modules"),
        ("trust", "Trust"),
    ]


def _legend(steps: Sequence[StepParts]) -> dict[str, str]:
    return {name: role(name) for name in part_names(steps)}


def _tone(run: RunReport) -> str:
    states = {check.state for check in run.checks}
    return "bad" if CheckState.FAILED in states else "warn" if CheckState.NOTED in states else ""


def _total(line: TotalLine, index: int) -> dict[str, Any]:
    """A configuration's total for each number of steps from 1."""
    totals = [line.total_ns(steps) for steps in range(1, STEPS + 1)]
    return {
        "name": visible(line.name),
        "role": LINE_ROLES[index % len(LINE_ROLES)],
        "texts": [total_text(line, steps) for steps in range(1, STEPS + 1)],
        "values": totals,
        "measured": line.measured_steps,
    }


def _out_of_memory(run: RunReport) -> list[str]:
    """Who held the device's memory, when that is what ended the run."""
    held = run.summary.out_of_memory
    return [] if held is None else [visible(line.strip()) for line in memory_holder_lines(held)]


def _run_view(run: RunReport, index: int) -> dict[str, Any]:
    figures = run_figures(run)
    bars, unit = step_bars(first_and_warm(run)) if first_and_warm(run) else ([], None)
    return {
        "index": index,
        "report": run,
        "name": visible(run.name),
        "path": visible(run.path),
        "open_command": shlex.join(["tracekit", "open", visible(run.path)]),
        "head": _head(run),
        "tone": _tone(run),
        "lede": visible(run.summary.verdict),
        "bars": bars,
        "unit": unit,
        "bars_table": bars_table(run),
        "legend": _legend([step for _, step in first_and_warm(run)]),
        "steps_legend": _legend(run.steps),
        "facts": facts(run),
        "findings": [_finding(finding) for finding in run.summary.findings],
        "together": visible(together(run.summary.findings)),
        "next_step": run.summary.next_step,
        "out_of_memory": _out_of_memory(run),
        "misfits": [visible(line) for row in run.plan.rows if row.prediction and (line := misfit(row))]
        if run.plan
        else [],
        "verified_table": verified_table(run.plan.verified) if run.plan and run.plan.verified else None,
        "drifts": [visible(line) for line in drift_lines(run.plan.drifts)] if run.plan else [],
        "plan_command": shlex.join(["tracekit", "plan", visible(run.path), "--verify", "3"]),
        "charts": sorted(figures),
        "heights": {name: figure["layout"]["height"] for name, figure in figures.items()},
        "quantities": [name.removeprefix("heat-") for name in figures if name.startswith("heat-")],
        "residency_views": _residency_views(run, figures),
        "residency_table": residency_table(run.residency) if run.residency else None,
        "waterfall_table": waterfall_table(run),
        "paging": run.summary.paging,
        "paging_reason": _sentence(run.summary.paging.reason) if run.summary.paging else "",
        "paging_facts": paging_facts(run.summary.paging) if run.summary.paging else [],
        "steps_table": steps_table([run]) if run.steps else None,
        "bandwidth_table": bandwidth_table(run.copies, run.summary) if run.copies else None,
        "memory_table": memory_table(run.memory) if run.memory else None,
        "modules": module_table(run, STATIC_ROWS),
        "provenance": provenance(run.manifest),
        "command": command_line(run.manifest),
        "warnings": [visible(text) for text in run.summary.warnings],
    }


def _residency_views(run: RunReport, figures: dict[str, Any]) -> dict[str, str]:
    """The titles of the windows of which there is a chart, by the chart's name."""
    windows = run.residency.windows if run.residency else []
    titles = {f"residency-{window.key}": window.title for window in windows}
    return {name: _capital(title) for name, title in titles.items() if name in figures}


def _sentence(text: str) -> str:
    return visible(_capital(text)).rstrip(".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(view: dict[str, Any], several: bool) -> dict[str, Any]:
    """The run's tables called after it where there are others: a reader who hears the captions must tell them apart."""
    if not several:
        return view
    tables = {key: value for key, value in view.items() if isinstance(value, Table)}
    named = {key: replace(table, caption=f"{table.caption} ({view['name']})") for key, table in tables.items()}
    return view | named


def _head(run: RunReport) -> list[str]:
    summary = run.summary
    steps = f"{len(summary.steps):,} step{'s' if len(summary.steps) != 1 else ''}"
    device = "emulated device" if summary.emulated else summary.device_name
    words = [run.name, steps, device, run.manifest.created.replace("T", " ")[:16]]
    return [visible(word) for word in words if word]


def _code(finding: Finding) -> dict[str, Any]:
    """The code to paste: long lists of modules are folded away."""
    lines = finding.code.splitlines()
    return {"code": "\n".join(map(visible, lines)), "code_lines": len(lines)}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "finding": finding,
        "headline": headline(finding),
        "gain": _sentence(gain_words(finding)),
        "title": visible(finding.title),
        "evidence": f"{_sentence(finding.evidence)}.",
        **_code(finding),
    }
