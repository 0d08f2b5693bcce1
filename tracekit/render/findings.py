"""What to change as text for a terminal: findings with their evidence and gain, else the next step."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from tracekit.model.finding import Finding, Gain, NextStep
from tracekit.render.plaintext import visible
from tracekit.units import format_duration

MAX_FINDINGS = 2
"""Findings that are shown whole; the others in one line."""


def advice_blocks(findings: Sequence[Finding], step: NextStep | None) -> list[RenderableType]:
    """Findings, one paragraph each, and how they go together; without any, the next step."""
    if not findings:
        return [_step(step)] if step is not None else []
    blocks: list[RenderableType] = [_paragraph(finding) for finding in findings[:MAX_FINDINGS]]
    rest = [f"{finding.slug} ({gain_words(finding)})" for finding in findings[MAX_FINDINGS:]]
    sentences = [f"Also {'; '.join(rest)}"] if rest else []
    sentences += [line for line in [together(findings)] if line]
    return [*blocks, Text(visible(". ".join(sentences)))] if sentences else blocks


def gain_words(finding: Finding) -> str:
    """What it saves of whole runs, with its basis: ``saves 10.0 s to 11.5 s in 3 steps, predicted``."""
    if not finding.gains:
        return "gain not known"
    saved, lost = ([gain for gain in finding.gains if (gain.low_ns > 0) is more] for more in (True, False))
    words = []
    if saved:
        words.append(
            "saves " + " and ".join(f"{_range(gain.low_ns, gain.high_ns)} in {_steps(gain)}" for gain in saved)
        )
    words += [
        f"takes {_range(-gain.high_ns, -gain.low_ns)} longer in {_steps(gain)}"
        if gain.high_ns < 0
        else f"saves nothing certain in {_steps(gain)}"
        for gain in lost
    ]
    return ", ".join([*words, finding.basis.value])


def headline(finding: Finding) -> str:
    """What it saves at the most steps asked about: ``65.0 s to 70.0 s less in 28 steps``; empty of nothing."""
    saved = [gain for gain in finding.gains if gain.low_ns > 0]
    return f"{_range(saved[-1].low_ns, saved[-1].high_ns)} less in {_steps(saved[-1])}" if saved else ""


def together(findings: Sequence[Finding]) -> str:
    """Which findings are alternatives, each pair told once; empty of one finding."""
    if len(findings) < 2:
        return ""
    told: set[str] = set()
    sentences = []
    # The one with the most alternatives first: fewest words.
    for finding in sorted(findings, key=lambda each: -len(each.instead_of)):
        others = [slug for slug in finding.instead_of if slug not in told]
        told.add(finding.slug)
        if others:
            sentences.append(f"{finding.slug} is instead of {', '.join(others)}")
    if all(len(finding.instead_of) == len(findings) - 1 for finding in findings):
        return "; ".join(sentences)
    rest = "the others combine" if sentences else "They combine"
    return "; ".join([*sentences, f"{rest}, but their gains do not add up"])


def _range(low_ns: int, high_ns: int) -> str:
    low, high = format_duration(low_ns), format_duration(high_ns)
    return low if low == high else f"{low} to {high}"


def _steps(gain: Gain) -> str:
    return f"{gain.steps:,} step{'s' if gain.steps != 1 else ''}"


def _paragraph(finding: Finding) -> RenderableType:
    cost = f"; costs {visible(finding.cost)}" if finding.cost else ""
    text = Text(visible(finding.title), style="bold green")
    text.append(f"\n{finding.slug}: {gain_words(finding)}{cost}. ", style="not bold default")
    text.append(_capital(visible(finding.evidence)), style="not bold dim default")
    if finding.command:
        text.append(f"\ntry  {visible(finding.command)}", style="not bold default")
    return text


def _step(step: NextStep) -> RenderableType:
    text = Text(visible(step.reason))
    return text.append(f"\ntry  {visible(step.command)}") if step.command else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
