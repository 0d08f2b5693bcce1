"""What each copy's time is made of: disk reads, page mapping, staging of pageable memory, and the link itself.

A copy is under way from its device record's first moment to its last. The driver fills its staging buffers from
pageable memory inside the call that asks for the copy, before and while the device works: there the call counts, too.

A copy of a weight is cold when it is the first of its parameter or when it paged; every other copy is warm.

- What a warm copy takes is ``link``, up to what its bytes take at this machine's pinned ceiling; from pageable memory
  the rest is ``staging``. A copy from pinned memory is ``link`` alone.
- A cold copy's base is what it would take warm: the median of its parameter's warm copies; without one, the pageable
  ceiling of its size; without that, the rate of the run's warm copies. The base divides as a warm copy does.
- What a cold copy takes beyond its base is ``disk`` if it paged, less what mapping that many pages takes on this
  machine, but never less than reading its bytes at the disk's ceiling. If it did not page and came from a mapped
  file whose pages had to be mapped, it is ``mapping``, up to what that takes on this machine.
- What is then left of a cold copy from a mapped file is disk in the share of its step's cold bytes that came from disk:
  pages that are being read ahead count as resident, and the copy waits for them. The rest is staging.
- Without any base, the share of a paged copy that was not in memory is disk.

Without a pinned ceiling nothing tells staging from the link, which then has both. The emulated device has no staging:
its link is a memcpy out of pageable memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.activity import copy_times
from tracekit.analysis.ceilings import Ceilings, Nanoseconds
from tracekit.analysis.hostevidence import HostEvidence
from tracekit.analysis.intervals import Times
from tracekit.analysis.launches import LaunchFinder
from tracekit.model import NONE, Direction, HostMemory, Measure, Timeline
from tracekit.model.text import row_numbers, says

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CopyCosts:
    """One entry a copy: when it was under way, and the parts of that time, whose sum is at most its length (ns)."""

    starts: Times
    ends: Times
    disk: Nanoseconds
    mapping: Nanoseconds
    staging: Nanoseconds
    divided: Flags
    """Whether the split rests on a rule: all but copies that are the link's alone."""

    @classmethod
    def of(cls, timeline: Timeline, evidence: HostEvidence, ceilings: Ceilings) -> CopyCosts:
        """The costs of the timeline's copies."""
        copies = timeline.copies
        emulated = timeline.run.manifest.device.kind == "emulated"
        pinned = (copies["host_memory"] == HostMemory.PINNED).to_numpy() | _says(copies["device_name"], "Pinned")
        pageable = ~pinned & ~(copies["host_memory"] == HostMemory.UNKNOWN).to_numpy()
        pageable |= _says(copies["device_name"], "Pageable")
        starts, ends = _under_way(timeline, pageable & ~np.bool_(emulated))
        took = (ends - starts).astype(np.float64)
        is_onload = (copies["is_weight"] & (copies["direction"] == Direction.H2D)).to_numpy() & ~pinned
        cold = is_onload & (copies["first"] | copies["paged"]).to_numpy()
        base = _base(copies, took, cold, is_onload & ~cold, ceilings)
        disk, mapping, beyond = _cold_parts(copies, took, base, cold, evidence, ceilings)
        link = np.where(pageable, _pinned_ns(copies, ceilings), np.inf)
        warm_part = took - disk - mapping - beyond
        staging = np.maximum(warm_part - np.nan_to_num(link, nan=np.inf), 0) + beyond
        if emulated:
            staging = np.zeros(len(copies))
        return cls(starts, ends, disk, mapping, staging, cold | (pageable & ~np.bool_(emulated)))


def _under_way(timeline: Timeline, staged: Flags) -> tuple[Times, Times]:
    """When each copy was under way; of `staged` ones from the beginning of the call behind its record to its end."""
    copies, calls = timeline.copies, timeline.run.runtime_calls
    starts, ends = (times.copy() for times in copy_times(copies))
    rows = np.flatnonzero(staged & (copies["correlation_id"] != NONE).to_numpy())
    found = LaunchFinder(calls, _says(calls["name"], "Memcpy")).find(
        pd.DataFrame(
            {
                "start_ns": starts[rows],
                "end_ns": ends[rows],
                "correlation_id": copies["correlation_id"].to_numpy()[rows],
            }
        )
    )
    starts[rows], ends[rows] = np.minimum(starts[rows], found.start_ns), np.maximum(ends[rows], found.end_ns)
    return starts, ends


def _base(copies: pd.DataFrame, took: Nanoseconds, cold: Flags, warm: Flags, ceilings: Ceilings) -> Nanoseconds:
    """What each cold copy would take warm; NaN where nothing tells, and for other copies."""
    base = np.full(len(copies), np.nan)
    weight = row_numbers(copies[["fqn", "parameter"]])
    medians = pd.Series(took[warm]).groupby(weight[warm]).median()
    size = copies["size_bytes"].to_numpy()
    base[cold] = medians.reindex(weight[cold]).to_numpy()
    lone = np.flatnonzero(cold & np.isnan(base))
    base[lone] = ceilings.median_ns(Measure.PAGEABLE_H2D, size[lone])
    lone = lone[np.isnan(base[lone])]
    moved = size[warm].sum()
    if moved:
        base[lone] = size[lone] * (took[warm].sum() / moved)
    return base


def _cold_parts(
    copies: pd.DataFrame, took: Nanoseconds, base: Nanoseconds, cold: Flags, evidence: HostEvidence, ceilings: Ceilings
) -> tuple[Nanoseconds, Nanoseconds, Nanoseconds]:
    """Disk reads, page mapping, and what is left of the time beyond a cold copy's base."""
    size, paged = copies["size_bytes"].to_numpy(), copies["paged"].to_numpy()
    mapped = (copies["host_memory"] == HostMemory.MMAP).to_numpy()
    absent = evidence.absent_bytes(size) / np.maximum(size, 1)
    beyond = np.where(cold, np.maximum(took - base, 0), 0.0)
    beyond = np.where(cold & np.isnan(base), absent * took, beyond)
    maps = mapped & (evidence.minor_faults != 0)
    calibrated = ceilings.has(Measure.MAP_PAGES)
    to_map = np.where(maps, ceilings.median_ns(Measure.MAP_PAGES, size) if calibrated else 0.0, 0.0)
    reading = np.nan_to_num(ceilings.median_ns(Measure.DISK_READ, np.maximum(evidence.read_bytes, 0)), nan=0.0)
    disk = np.where(paged, np.maximum(beyond - to_map, np.minimum(reading, beyond)), 0.0)
    left = beyond - disk
    mapping = np.where(paged, left, np.where(maps & ~np.bool_(calibrated), left, np.minimum(left, to_map)))
    waiting = (left - mapping) * _read_ahead(copies, cold & mapped, evidence.read_bytes)
    return disk + waiting, mapping, left - mapping - waiting


def _read_ahead(copies: pd.DataFrame, cold: Flags, read_bytes: Times) -> Nanoseconds:
    """Of each cold copy, which share of its step's cold bytes came from disk: so likely it waited for read-ahead."""
    share = np.zeros(len(copies))
    if cold.any():
        rows = copies.loc[cold, ["run_index", "phase", "step_index"]]
        unit = row_numbers(rows)
        sums = np.zeros((2, unit.max() + 1))
        np.add.at(sums[0], unit, np.maximum(read_bytes[cold], 0))
        np.add.at(sums[1], unit, copies["size_bytes"].to_numpy()[cold])
        share[cold] = np.minimum(sums[0] / np.maximum(sums[1], 1), 1)[unit]
    return share


def _pinned_ns(copies: pd.DataFrame, ceilings: Ceilings) -> Nanoseconds:
    """What each copy's bytes take at the pinned ceiling of its direction."""
    size = copies["size_bytes"].to_numpy()
    to_device = (copies["direction"] == Direction.H2D).to_numpy()
    up, down = (ceilings.median_ns(measure, size) for measure in (Measure.PINNED_H2D, Measure.PINNED_D2H))
    return np.where(to_device, up, down)


def _says(column: pd.Series[str], word: str) -> Flags:
    """Which rows of a text column have the word in them."""
    return says(column, lambda text: word in text)
