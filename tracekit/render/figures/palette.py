"""Colours by what they stand for, in a light and a dark theme, and the patterns that tell them apart without colour.

Figures name a colour as ``@name``; the page looks it up in its style sheet, which has these very values, and `resolved`
does it for a notebook. Against the page's cards every colour has a contrast of 3:1 at least.
"""

from __future__ import annotations

from typing import Any, Literal

from tracekit.model import Cause
from tracekit.model.report import COMPUTING, COPYING, NEITHER, CopyState

Theme = Literal["light", "dark"]

COLOURS: dict[str, tuple[str, str]] = {
    "disk": ("#a33b0a", "#f2703a"),
    "mapping": ("#c96a12", "#f0a35e"),
    "staging": ("#2a67d6", "#5a97f5"),
    "link": ("#0f86b5", "#6fc7ee"),
    "allocation": ("#8a1fae", "#c79be0"),
    "compute": ("#0b6b60", "#5fd0bb"),
    "first-use": ("#3f8f3a", "#9bd67a"),
    "garbage": ("#7a4a2b", "#d9a47e"),
    "hooks": ("#8d7100", "#e3c744"),
    "model": ("#b8326f", "#f08bb6"),
    "waiting": ("#5f6875", "#9aa4b1"),
    "tracekit": ("#33404f", "#cfd6de"),
    "unattributed": ("#838b96", "#7d8794"),
    "ink": ("#12161c", "#eef2f6"),
    "muted": ("#586273", "#98a4b3"),
    "grid": ("#e5e8ed", "#28303a"),
    "line": ("#c9ced6", "#3a434f"),
    "card": ("#ffffff", "#161b22"),
    "bound": ("#12161c", "#eef2f6"),
}
"""Each name's colour in the light and in the dark theme."""

PATTERNS: dict[str, tuple[str, int]] = {
    "disk": ("x", 8),
    "mapping": ("/", 8),
    "staging": ("", 0),
    "link": ("\\", 8),
    "allocation": ("+", 8),
    "compute": (".", 9),
    "first-use": ("-", 7),
    "garbage": ("+", 5),
    "hooks": ("|", 7),
    "model": ("/", 5),
    "waiting": ("-", 12),
    "tracekit": ("x", 5),
    "unattributed": (".", 5),
}
"""plotly's name and the size in pixels of each part's pattern; no two are the same."""

_ROLES: dict[str, str] = {
    Cause.DISK: "disk",
    Cause.MAPPING: "mapping",
    Cause.STAGING: "staging",
    Cause.LINK: "link",
    Cause.ALLOCATION: "allocation",
    Cause.COMPUTE: "compute",
    Cause.FIRST_USE: "first-use",
    Cause.GARBAGE: "garbage",
    Cause.HOOKS: "hooks",
    Cause.MODEL: "model",
    Cause.WAITING: "waiting",
    Cause.TRACEKIT: "tracekit",
    Cause.UNATTRIBUTED: "unattributed",
    COPYING: "staging",
    COMPUTING: "compute",
    NEITHER: "waiting",
    CopyState.PAGED: "disk",
    CopyState.FIRST: "mapping",
    CopyState.WARM: "staging",
}

LINE_ROLES = ("staging", "compute", "allocation", "mapping", "model", "hooks", "link", "disk")
"""Colours of configurations beside each other, in order."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")

SCALES: dict[str, tuple[list[list[float | str]], list[list[float | str]]]] = {
    "sequential": (
        [[0, "#eef4fd"], [0.25, "#b4d0f7"], [0.5, "#5d97ee"], [0.75, "#2258b8"], [1, "#0a2450"]],
        [[0, "#182436"], [0.25, "#1f4a86"], [0.5, "#3f83d6"], [0.75, "#93c0f4"], [1, "#f3f8ff"]],
    )
}
# A scale whose steps grow with the value shows what a few slow modules would drown.
SCALES["rooted"] = tuple([[stop[0] ** 2, stop[1]] for stop in scale] for scale in SCALES["sequential"])  # type: ignore[assignment, operator]


def role(part: str) -> str:
    """The colour's name for a part of a step or a state of a copy."""
    return _ROLES.get(part, "unattributed")


def css_variables(theme: Theme) -> dict[str, str]:
    """The style sheet's variables: each colour, and the ink that can be read on it."""
    index = 0 if theme == "light" else 1
    colours = {name: pair[index] for name, pair in COLOURS.items()}
    inks = {f"on-{name}": _ink(colours[name]) for name in PATTERNS}
    return {f"c-{name}": colour for name, colour in colours.items()} | {f"c-{name}": ink for name, ink in inks.items()}


def resolved(figure: Any, theme: Theme = "light") -> Any:
    """The figure with colours in place of their names."""
    if isinstance(figure, str) and figure.startswith("@"):
        index = 0 if theme == "light" else 1
        return SCALES[figure[1:]][index] if figure[1:] in SCALES else COLOURS[figure[1:]][index]
    if isinstance(figure, dict):
        return {key: resolved(value, theme) for key, value in figure.items()}
    if isinstance(figure, list):
        return [resolved(value, theme) for value in figure]
    return figure


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast of two colours as WCAG 2 defines it, 1 to 21."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _ink(colour: str) -> str:
    return max(("#ffffff", "#0b0f14"), key=lambda ink: contrast(ink, colour))
