"""How much longer the same work took in one process than in another, by what their calibrations say.

Clocks, other programs and a virtual machine's neighbours change what a machine can do from one minute to the next; no
prediction from one run knows of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean

from tracekit.model import CeilingRow, Measure

LEAST_BYTES = 1 << 20
"""Smaller copies take what the call takes: they say nothing of memory."""
_PIECES = {
    Measure.HOOK_WORK: "host code",
    Measure.PAGEABLE_H2D: "pageable copies",
    Measure.PINNED_H2D: "pinned copies",
    Measure.PIN: "page-locking",
    Measure.CLONE: "cloning",
    Measure.DISK_READ: "disk reads",
}


def machine_drift(before: Sequence[CeilingRow], after: Sequence[CeilingRow]) -> dict[str, float]:
    """What each piece of work took `after` against `before`, where both measured it: 1.2 is a fifth longer.

    The geometric mean over sizes of the medians' ratios; of offload hooks, what they take beside small copies.
    """
    known = {(row.measure, row.size_bytes): row.median_ns for row in before if _counts(row)}
    ratios: dict[str, list[float]] = {}
    for row in after:
        was = known.get((row.measure, row.size_bytes))
        if was and row.median_ns:
            ratios.setdefault(_PIECES[row.measure], []).append(row.median_ns / was)
    return {piece: geometric_mean(found) for piece, found in ratios.items()}


def _counts(row: CeilingRow) -> bool:
    if row.measure is Measure.HOOK_WORK:
        return row.size_bytes < LEAST_BYTES
    return row.measure in _PIECES and row.size_bytes >= LEAST_BYTES
