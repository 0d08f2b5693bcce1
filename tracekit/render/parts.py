"""Columns of durations in one unit, rounded so that what is shown as a sum adds up as shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.units import NS_PER_S

_MS = NS_PER_S // 1000


@dataclass(frozen=True)
class DurationUnit:
    """One unit for a whole table: its name, its length, and the smallest step shown."""

    name: str
    unit_ns: int
    quantum_ns: int

    @classmethod
    def fitting(cls, longest_ns: int) -> DurationUnit:
        """Seconds with two decimals for what takes a second, else milliseconds with as many."""
        return cls("s", NS_PER_S, NS_PER_S // 100) if longest_ns >= NS_PER_S else cls("ms", _MS, _MS // 100)

    def text(self, quanta: int) -> str:
        """A whole number of smallest steps, as a number of the unit."""
        return f"{quanta * self.quantum_ns / self.unit_ns:,.2f}"

    def split(self, parts_ns: Sequence[int]) -> tuple[str, list[str]]:
        """The total and its parts (not negative) as texts that add up exactly.

        Each part is rounded up or down to a neighbour; those that lose most by rounding down go up.
        """
        total = round(sum(parts_ns) / self.quantum_ns)
        floors = [part // self.quantum_ns for part in parts_ns]
        by_loss = sorted(range(len(floors)), key=lambda index: -(parts_ns[index] % self.quantum_ns))
        for index in by_loss[: total - sum(floors)]:
            floors[index] += 1
        return self.text(total), [self.text(part) for part in floors]
