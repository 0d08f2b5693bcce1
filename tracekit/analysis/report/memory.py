"""Device memory over time: what was allocated, reserved and used, thinned to what a chart can show."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracekit.model import NONE, Phase, Timeline
from tracekit.model.report import MemorySeries, MemoryTrack

_SERIES = {
    "allocated": "device_allocated_bytes",
    "reserved": "device_reserved_bytes",
    "used on the GPU": "nvml_memory_used_bytes",
}
"""The counters by the name they are shown under; NVML's counts every process's memory."""
_STRETCHES = 500
"""More than a chart has pixels for."""
_KEPT_PEAKS = {"allocated": "device_peak_allocated_bytes", "reserved": "device_peak_reserved_bytes"}


def memory_track(timeline: Timeline) -> MemoryTrack | None:
    """The track of the first device that has samples; None where no device memory was sampled."""
    counters = timeline.run.counters
    own = counters[counters["series"].isin(list(_SERIES.values()))]
    if own.empty:
        return None
    own = own[own["device_index"] == own["device_index"].iloc[0]].sort_values("t_ns", kind="stable")
    samples = {name: own.loc[own["series"] == series, ["t_ns", "value"]] for name, series in _SERIES.items()}
    samples = {name: rows for name, rows in samples.items() if len(rows)}
    device = timeline.run.manifest.device
    peaks = {name: _peak(counters, name, rows) for name, rows in samples.items()}
    return MemoryTrack(
        series=[_thinned(name, rows) for name, rows in samples.items()],
        limit_bytes=device.limit_bytes,
        is_cap=device.cap_bytes is not None,
        # What the process itself holds says what is free under its cap; NVML's figure includes the context.
        peak_bytes=peaks.get("reserved") or max(peaks.values()),
        peaks=_peaks_by_phase(timeline, samples),
    )


def _peak(counters: pd.DataFrame, name: str, rows: pd.DataFrame) -> int:
    """The largest sample, or the peak that the device itself kept, which no sampling misses."""
    kept = counters.loc[counters["series"] == _KEPT_PEAKS.get(name, ""), "value"]
    return int(max(rows["value"].max(), kept.max() if len(kept) else 0))


def _thinned(name: str, rows: pd.DataFrame) -> MemorySeries:
    """At most `_STRETCHES` stretches of equally many samples: memory that rises and falls at every module is a band."""
    times, values = rows["t_ns"].to_numpy(), rows["value"].to_numpy()
    starts = np.unique(np.linspace(0, len(values), _STRETCHES, endpoint=False).astype(int))
    return MemorySeries(
        name=name,
        t_ns=times[starts].tolist(),
        high_bytes=[round(value) for value in np.maximum.reduceat(values, starts)],
        low_bytes=[round(value) for value in np.minimum.reduceat(values, starts)],
    )


def _peaks_by_phase(timeline: Timeline, samples: dict[str, pd.DataFrame]) -> list[tuple[str, dict[str, int]]]:
    peaks = []
    for title, start_ns, end_ns in _windows(timeline):
        inside = {name: rows[(rows["t_ns"] >= start_ns) & (rows["t_ns"] < end_ns)] for name, rows in samples.items()}
        found = {name: int(rows["value"].max()) for name, rows in inside.items() if len(rows)}
        if found:
            peaks.append((title, found))
    return peaks


def _windows(timeline: Timeline) -> list[tuple[str, int, int]]:
    """The phases of the first run, step 1 apart."""
    if timeline.runs.empty:
        return []
    run = timeline.runs.iloc[0]
    start, end = int(run["start_ns"]), int(run["end_ns"])
    loop_start, loop_end = int(run["denoise_start_ns"]), int(run["denoise_end_ns"])
    if loop_start == NONE or timeline.steps.empty:
        return [("run", start, end)]
    first_end = int(timeline.steps["end_ns"].iloc[0])
    windows = [
        (Phase.ENCODE, start, loop_start),
        ("step 1", loop_start, first_end),
        ("later steps", first_end, loop_end),
        (Phase.DECODE, loop_end, end),
    ]
    return [(str(title), begins, ends) for title, begins, ends in windows if ends > begins]
