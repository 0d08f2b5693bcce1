"""What templates are given: tables, bars and facts whose texts are ready to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A table: `texts` is how many columns from the left are texts; the rest are figures, aligned right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    note: str = ""


@dataclass(frozen=True)
class Segment:
    """A part of a bar: its colour's name, its share of the longest bar in per cent, and its length as text."""

    name: str
    role: str
    percent: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A stacked bar."""

    label: str
    total: str
    segments: Sequence[Segment] = field(default_factory=list)


@dataclass(frozen=True)
class Fact:
    """One figure with what it is, and what it must be read against."""

    title: str
    value: str
    note: str = ""
