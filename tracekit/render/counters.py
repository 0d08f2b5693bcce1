"""Counter tracks: device memory, link speed, weights on the device, their pages in the page cache, NVML's series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.model import HOST_PYTHON, NONE, Direction, SpanKind, Timeline
from tracekit.model.text import paths_around, row_numbers
from tracekit.render.rowtext import Ints
from tracekit.render.slices import TraceStats
from tracekit.units import COUNTER_UNITS

MAX_BINS = 4_000
MIN_BIN_NS = 100_000

_FIXED_TITLES = {
    "device_allocated_bytes": "memory allocated",
    "device_reserved_bytes": "memory reserved",
    HOST_PYTHON: "a fixed piece of Python",
}
_ACRONYMS = {"nvml": "NVML", "pcie": "PCIe", "gpu": "GPU", "sm": "SM"}
_PEAK = "device_peak_"
"""A peak is one figure at the end of a run, not a quantity over time: the summary has it."""


@dataclass(frozen=True)
class CounterTrack:
    """One track: its device (`NONE`: the host), title, unit, and samples that hold until the next."""

    device_index: int
    title: str
    unit: str
    t_ns: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def counter_tracks(timeline: Timeline, device_rows: pd.DataFrame, stats: TraceStats) -> Iterator[CounterTrack]:
    """Every counter track of the trace that has a sample."""
    yield from _link_speeds(timeline, device_rows)
    yield from _weights_on_device(timeline)
    yield from _page_cache(timeline)
    counters = timeline.run.counters
    finite = np.isfinite(counters["value"].to_numpy(np.float64))
    stats.counter_samples_not_finite += int((~finite).sum())
    counters = counters[finite].sort_values("t_ns", kind="stable")
    for (series, device_index), rows in counters.groupby(["series", "device_index"], observed=True):
        if str(series).startswith(_PEAK):
            continue
        title, unit, factor = series_title(str(series))
        values = rows["value"].to_numpy(np.float64) * factor
        yield CounterTrack(int(device_index), title, unit, rows["t_ns"].to_numpy(np.int64), values)


def series_title(series: str) -> tuple[str, str, float]:
    """A series' title, the unit it is shown in, and the factor to it."""
    # Where there is no unit, the name's last word is what viewers put behind the title.
    suffix = next((suffix for suffix in COUNTER_UNITS if series.endswith(suffix)), f"_{series.rpartition('_')[2]}")
    unit, factor = COUNTER_UNITS.get(suffix, (suffix[1:], 1.0))
    words = series.removesuffix(suffix).removeprefix("device_").split("_")
    return _FIXED_TITLES.get(series, " ".join(_ACRONYMS.get(word, word) for word in words)), unit, factor


def binned_rate(
    start_ns: Ints, end_ns: Ints, size_bytes: Ints
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Mean rate in GB/s (bytes a nanosecond) in equal bins, each transfer spread evenly over its time.

    The bins' rates times their lengths add up to the bytes moved. Returns the bins' starts and a closing 0; bins that
    go on as the one before are left out.
    """
    moving = end_ns > start_ns
    start, end, size = start_ns[moving].astype(np.int64), end_ns[moving].astype(np.int64), size_bytes[moving]
    if not len(start):
        return np.empty(0, np.int64), np.empty(0)
    base = int(start.min())
    width = max(MIN_BIN_NS, -(-(int(end.max()) - base) // MAX_BINS))
    edges = np.arange(base, int(end.max()) + width, width, dtype=np.int64)
    times = np.concatenate([start, end]) - base
    slopes = np.concatenate([size / (end - start), -size / (end - start)])
    order = np.argsort(times, kind="stable")
    times, rate = times[order], np.cumsum(slopes[order])
    moved = np.concatenate([[0.0], np.cumsum(rate[:-1] * np.diff(times))])
    rates = np.diff(np.interp(edges - base, times, moved)) / width
    # What is left of summing and subtracting is no transfer.
    rates = np.append(np.where(rates < 1e-9, 0.0, rates), 0.0)
    changed = np.concatenate([[True], rates[1:] != rates[:-1]])
    return edges[changed], rates[changed]


def weights_over_time(onload_ns: Ints, size_bytes: Ints, weight: Ints, dropped_ns: dict[int, Ints]) -> pd.Series[int]:
    """Bytes of weights on the device after each change, by time.

    A weight (a number) is there from an onload until the next of its `dropped_ns`; onloads in between change nothing.
    """
    times, changes = [onload_ns[:0]], [size_bytes[:0]]
    by_weight = np.lexsort((onload_ns, weight))
    bounds = np.flatnonzero(np.diff(weight[by_weight])) + 1
    for order in np.split(by_weight, bounds) if len(weight) else ():
        drops = np.sort(dropped_ns.get(int(weight[order[0]]), np.empty(0, np.int64)))
        stay = np.searchsorted(drops, onload_ns[order], side="left")
        first = np.concatenate([[True], stay[1:] != stay[:-1]])
        order, stay = order[first], stay[first]
        gone = stay < len(drops)
        times += [onload_ns[order], drops[stay[gone]]]
        changes += [size_bytes[order], -size_bytes[order[gone]]]
    held = pd.Series(np.concatenate(changes), index=np.concatenate(times))
    return held.groupby(level=0).sum().cumsum()


def _link_speeds(timeline: Timeline, device_rows: pd.DataFrame) -> Iterator[CounterTrack]:
    copies = device_rows[device_rows["copy_row"] != NONE]
    directions = timeline.copies["direction"].iloc[copies["copy_row"]]
    for direction in Direction:
        for device_index, rows in copies[(directions == direction).to_numpy()].groupby("device_index"):
            columns = (rows[name].to_numpy(np.int64) for name in ("start_ns", "end_ns", "size_bytes"))
            t_ns, rates = binned_rate(*columns)
            yield CounterTrack(int(str(device_index)), f"{direction} copies", "GB/s", t_ns, rates)


def _weights_on_device(timeline: Timeline) -> Iterator[CounterTrack]:
    copies = timeline.copies
    copies = copies[(copies["direction"] == Direction.H2D) & copies["is_weight"].astype(bool)]
    if copies.empty:
        return
    offloads = timeline.spans.loc[timeline.spans["kind"] == SpanKind.OFFLOAD, ["fqn", "end_ns"]]
    ends = {str(fqn): rows.to_numpy(np.int64) for fqn, rows in offloads.groupby("fqn", observed=True)["end_ns"]}
    weights = copies[["fqn", "parameter"]]
    numbers = row_numbers(weights)
    fqns = weights[~weights.duplicated()]["fqn"]
    nothing = np.empty(0, np.int64)
    # An offload of a component or group drops what is below it.
    dropped = {
        number: np.concatenate([nothing, *(ends.get(path, nothing) for path in paths_around(fqn))])
        for number, fqn in enumerate(fqns)
    }
    here = copies["device_end_ns"].where(copies["device_end_ns"] != NONE, copies["end_ns"]).to_numpy(np.int64)
    unit, factor = COUNTER_UNITS["_bytes"]
    held = weights_over_time(here, copies["size_bytes"].to_numpy(np.int64), numbers, dropped)
    yield CounterTrack(
        _device_index(copies["device"].iloc[0]),
        "weights on device",
        unit,
        held.index.to_numpy(np.int64),
        np.asarray(held, np.float64) * factor,
    )


def _device_index(name: str) -> int:
    """The number behind torch's device name (``cuda:1``); 0 where there is none."""
    number = name.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def _page_cache(timeline: Timeline) -> Iterator[CounterTrack]:
    samples = timeline.run.host_samples.dropna(subset="resident_before")
    starts = timeline.copies.drop_duplicates("copy_id").set_index("copy_id")["start_ns"]
    samples = samples[samples["copy_id"].isin(starts.index)]
    if len(samples):
        t_ns = starts.loc[samples["copy_id"]].to_numpy(np.int64)
        order = np.argsort(t_ns, kind="stable")
        share = samples["resident_before"].to_numpy(np.float64)[order]
        # One sample a copy would be mostly the same number: a counter holds its value until the next.
        changed = np.concatenate([[True], share[1:] != share[:-1]])
        yield CounterTrack(NONE, "weights in page cache", "share", t_ns[order][changed], share[changed])
