"""A figure of stacked bars as SVG: what each arm's steps are made of, by cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tracekit.model.causes import Cause
from tracekit.units import NS_PER_S

WIDTH, LEFT, RIGHT, ROW, BAR, TOP = 860, 250, 70, 26, 16, 20
COLOURS = {
    Cause.DISK: "#b3261e",
    Cause.MAPPING: "#e07a5f",
    Cause.STAGING: "#f2a541",
    Cause.LINK: "#3d6fb4",
    Cause.ALLOCATION: "#7d5ba6",
    Cause.COMPUTE: "#3a8f5c",
    Cause.FIRST_USE: "#9ac26b",
    Cause.GARBAGE: "#8c5a3c",
    Cause.HOOKS: "#8d8d8d",
    Cause.MODEL: "#b5b5b5",
    Cause.WAITING: "#5fb3b3",
    Cause.TRACEKIT: "#d4a5c9",
    Cause.UNATTRIBUTED: "#dddddd",
}
_OTHER = "#dddddd"


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its length, and what it is made of (empty: not known)."""

    label: str
    total_ns: int
    causes: dict[Cause, int]


def bars_svg(bars: Sequence[Bar], title: str) -> str:
    """The figure; `title` is what a screen reader says."""
    longest = max((bar.total_ns for bar in bars), default=0) or 1
    scale = (WIDTH - LEFT - RIGHT) / longest
    shown = [cause for cause in Cause if any(bar.causes.get(cause, 0) * scale >= 0.5 for bar in bars)]
    legend_rows = -(-len(shown) // 5)
    height = TOP + ROW * len(bars) + 16 + 18 * legend_rows + 6
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    ]
    for index, bar in enumerate(bars):
        parts += _bar(bar, TOP + ROW * index, scale)
    for index, cause in enumerate(shown):
        x, y = 20 + 165 * (index % 5), TOP + ROW * len(bars) + 16 + 18 * (index // 5)
        parts.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{COLOURS[cause]}"/>')
        parts.append(f'<text x="{x + 16}" y="{y + 10}">{escape(cause)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(bar: Bar, y: int, scale: float) -> list[str]:
    parts = [f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(bar.label)}</text>']
    x = float(LEFT)
    for cause in Cause:
        width = bar.causes.get(cause, 0) * scale
        if width > 0:
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[cause]}"/>')
            x += width
    rest = LEFT + bar.total_ns * scale - x
    if rest > 0.5:
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{rest:.1f}" height="{BAR}" fill="{_OTHER}"/>')
    end = max(x, LEFT + bar.total_ns * scale)
    return [*parts, f'<text x="{end + 5:.1f}" y="{y + 12}">{bar.total_ns / NS_PER_S:.2f} s</text>']
