"""What one kind of slice looks like before it is written: where, when, its name, its args. And what became of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tracekit.render.jsontext import Member, Words
from tracekit.render.rowtext import Ints
from tracekit.units import format_duration


@dataclass(frozen=True)
class Slices:
    """Slices of one process. `row` is each one's position in the table it comes from.

    `track` is the thread or stream that a slice belongs to until it is placed, then its tid.
    """

    row: Ints
    track: Ints
    start_ns: Ints
    end_ns: Ints
    categories: Words
    names: Words
    args: Sequence[Member] = ()

    def __len__(self) -> int:
        return len(self.track)

    def take(self, rows: Ints | npt.NDArray[np.bool_]) -> Slices:
        """The slices at these positions (or where the mask is true)."""
        return Slices(
            self.row[rows],
            self.track[rows],
            self.start_ns[rows],
            self.end_ns[rows],
            self.categories.take(rows),
            self.names.take(rows),
            [member.take(rows) for member in self.args],
        )

    def at(self, track: Ints, start_ns: Ints, end_ns: Ints) -> Slices:
        """The same slices in their final place."""
        return replace(self, track=track, start_ns=start_ns, end_ns=end_ns)


@dataclass
class TraceStats:
    """What a trace holds, and everything that was changed or left out so that viewers lose nothing by themselves.

    `slices` counts by category. `flows` is the number of arrows; `copies_for_nothing` had none, since their module did
    not run before they were copied again, and `flows_left_out` had nowhere to arrive. `left_out_short` slices were too
    short for a trace that had to be thinned.
    """

    events: int = 0
    slices: Counter[str] = field(default_factory=Counter)
    flows: int = 0
    copies_for_nothing: int = 0
    flows_left_out: int = 0
    counter_samples: int = 0
    clipped_slices: int = 0
    clipped_max_ns: int = 0
    slices_in_extra_lanes: int = 0
    backward_slices: int = 0
    counter_samples_not_finite: int = 0
    left_out_steps: int = 0
    left_out_short: int = 0

    def adjustments(self, *, steps: bool = False) -> str:
        """What was changed or left out, in one line; empty when nothing was. `steps`, too, unless they were named."""
        told = (
            (self.left_out_steps * steps, "step", "left out"),
            (self.clipped_slices, "call", f"moved by up to {format_duration(self.clipped_max_ns)}, the clocks' error"),
            (self.slices_in_extra_lanes, "slice", "on an extra track for overlapping another"),
            (self.backward_slices, "slice", "shown without a duration for ending before the start"),
            (self.counter_samples_not_finite, "counter sample", "left out for being no number"),
            (self.left_out_short, "slice", "left out for being short"),
            (self.flows_left_out, "arrow", "left out for want of a later kernel of the forward to point to"),
        )
        return "; ".join(f"{count:,} {what}{'s' if count > 1 else ''} {how}" for count, what, how in told if count)

    def count_slices(self, slices: Slices) -> None:
        """Count slices as written."""
        words = slices.categories.words
        counts = np.bincount(slices.categories.codes, minlength=len(words))
        self.slices.update({word: int(count) for word, count in zip(words, counts, strict=True) if count})


def forward_in_time(start_ns: Ints, end_ns: Ints, stats: TraceStats) -> Ints:
    """The ends, none before its start: such a row is shown without a duration, and counted."""
    backward = end_ns < start_ns
    stats.backward_slices += int(backward.sum())
    return np.where(backward, start_ns, end_ns)
