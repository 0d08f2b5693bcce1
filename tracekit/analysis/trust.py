"""What a run's rows themselves say about how far they can be trusted."""

from __future__ import annotations

import numpy as np

from tracekit.analysis.ceilings import Ceilings
from tracekit.model import NONE, Direction, Measure, Phase, Timeline
from tracekit.units import format_bytes, format_duration, format_rate

_LARGE_BYTES = 10**6
"""Copies from this size on are held against the ceiling: smaller ones are mostly the cost of asking."""
_ERROR = 0.1
"""Least measurement error of a ceiling, as a share of its median."""


def trust_warnings(timeline: Timeline, ceilings: Ceilings) -> list[str]:
    """Warnings for what is missing from the device's record of the runs, and for copies faster than the link."""
    return [*_missing_records(timeline), *_above_ceiling(timeline, ceilings)]


def _missing_records(timeline: Timeline) -> list[str]:
    """Set-up is left out: a script's set-up is over before the device's record begins."""
    manifest, copies = timeline.run.manifest, timeline.copies
    if manifest.activity == "none":
        return []
    seen = (copies["copy_id"] != NONE) & (copies["phase"] != Phase.SETUP)
    count, missing = int(seen.sum()), int((seen & (copies["device_start_ns"] == NONE)).sum())
    if not missing:
        return []
    cause = (
        f"the {manifest.activity} record is cut short"
        if manifest.complete
        else "the device's record was still open when the profile ended"
    )
    return [f"{missing:,} of {count:,} copies have no device record, so that their host times stand in: {cause}"]


def _above_ceiling(timeline: Timeline, ceilings: Ceilings) -> list[str]:
    """Large copies that took less than their bytes take at the pinned ceiling, by more than the ceiling's error.

    That error is its samples' spread, a tenth at least. Only device times are held against it. The emulated device has
    no link that sets a limit: a memcpy out of the processor's cache is faster than any ceiling.
    """
    copies = timeline.copies
    warnings = []
    for direction, measure in ((Direction.H2D, Measure.PINNED_H2D), (Direction.D2H, Measure.PINNED_D2H)):
        timed = (copies["device_start_ns"] != NONE) & (copies["size_bytes"] >= _LARGE_BYTES)
        rows = np.flatnonzero(timed & (copies["direction"] == direction))
        size, took = (copies[name].to_numpy()[rows] for name in ("size_bytes", "duration_ns"))
        usual = ceilings.median_ns(measure, size)
        least = np.minimum(ceilings.fastest_ns(measure, size), (1 - _ERROR) * usual)
        faster = np.flatnonzero(took < least)
        if len(faster) == 0:
            continue
        worst = faster[np.argmin(took[faster] / usual[faster])]
        row = copies.iloc[rows[worst]]
        name = ".".join(part for part in (row["fqn"], row["parameter"]) if part) or row["operation"]
        rate, limit = format_rate(size[worst], took[worst]), format_rate(size[worst], usual[worst])
        warnings.append(
            f"{len(faster):,} {direction} copies of 1 MB or more are faster than this machine's link, above all "
            f"{name}: {format_bytes(size[worst])} in {format_duration(took[worst])} "
            f"({rate}, where the ceiling is {limit}): "
            "a defect of the record or of the ceiling"
        )
    return warnings
