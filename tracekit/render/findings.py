"""Findings as text for a terminal: what to change, on what evidence, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from tracekit.model.report import Finding
from tracekit.render.blocks import print_blocks
from tracekit.render.plaintext import visible
from tracekit.units import format_duration


def render_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print findings, one paragraph each; nothing where there are none."""
    if findings:
        print_blocks([_paragraph(finding) for finding in findings], console)


def gain(finding: Finding) -> str:
    """What it saves of the whole run, with its basis."""
    if finding.low_ns is None or finding.high_ns is None:
        return "gain not known"
    low, high = format_duration(finding.low_ns), format_duration(finding.high_ns)
    return f"saves {low if low == high else f'{low} to {high}'}, {finding.basis.value}"


def _paragraph(finding: Finding) -> RenderableType:
    text = Text(f"{visible(finding.title)} ", style="bold green")
    text.append(f"[{finding.slug}]", style="not bold dim default")
    text.append(f"\n{gain(finding)}; costs {visible(finding.cost)}", style="not bold default")
    return text.append(f"\n{visible(finding.evidence)}", style="not bold dim default")
