"""Device memory that a run took beside its weights, moment by moment: activations and what the libraries keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracekit.analysis.intervals import Times
from tracekit.analysis.weightstays import ALWAYS, weight_stays
from tracekit.model import NONE, Phase, Timeline

_BLOCK = 512
_UNSAMPLED = 1 << 20
"""Changes of allocated memory below this have no sample of their own on CUDA."""


@dataclass(frozen=True)
class Activations:
    """Bytes beside the weights: at each moment, the most in each phase, and what the allocator's cache adds.

    On CUDA every allocation is in the record. On the emulated device memory is only sampled between modules: what the
    peak was above the largest sample is taken to be missing from each of them, and at most there was, at any moment,
    the peak less the weights that were always there.
    """

    moments: Times
    beside: Times
    """What there was from each of the moments on."""
    most: dict[str, int]
    cache_bytes: int

    @classmethod
    def of(cls, timeline: Timeline) -> Activations | None:
        """The activations of a timeline's runs; None where device memory was not recorded."""
        counters = timeline.run.counters
        allocated = counters.loc[counters["series"] == "device_allocated_bytes", ["t_ns", "value"]]
        allocated = allocated.sort_values("t_ns", kind="stable")
        peaks = {
            name: counters.loc[counters["series"] == f"device_peak_{name}_bytes", "value"].max()
            for name in ("allocated", "reserved")
        }
        if allocated.empty and not peaks["allocated"] > 0:
            return None
        peak = max(float(np.nan_to_num(peaks["allocated"])), float(allocated["value"].max()) if len(allocated) else 0.0)
        reserved = counters.loc[counters["series"] == "device_reserved_bytes", "value"].max()
        reserved = max(float(np.nan_to_num(peaks["reserved"])), float(np.nan_to_num(reserved)))
        cache = round(max(reserved - peak, 0))
        times, held = _weights_held(timeline)
        at = allocated["t_ns"].to_numpy()
        beside = np.maximum(allocated["value"].to_numpy() - _at(times, held, at), 0).astype(np.int64)
        if timeline.run.manifest.device.kind == "cuda" and len(allocated):
            most = {
                phase: int(_most_between(at, beside, np.array(window))[0]) + _UNSAMPLED
                for phase, window in _windows(timeline).items()
            }
            return cls(at, beside, most, cache)
        kept = float(_at(times, held, np.array([timeline.runs["start_ns"].iloc[0]]))[0])
        everywhere = max(round(peak - kept), int(beside.max(initial=0)))
        most = dict.fromkeys(_windows(timeline), everywhere)
        if allocated.empty:
            return cls(np.zeros(1, np.int64), np.full(1, everywhere), most, cache)
        return cls(at, beside + round(peak - float(allocated["value"].max())), most, cache)

    def between(self, bounds: Times) -> Times:
        """The most between each two of the bounds, which are in order."""
        return _most_between(self.moments, self.beside, bounds)


def _most_between(moments: Times, beside: Times, bounds: Times) -> Times:
    if not len(moments):
        return np.zeros(len(bounds) - 1, np.int64)
    begin = np.maximum(np.searchsorted(moments, bounds[:-1], side="right") - 1, 0)
    end = np.searchsorted(moments, bounds[1:], side="left")
    # Where nothing changed between two bounds, `reduceat` gives what there was.
    return np.maximum.reduceat(np.append(beside, 0), np.column_stack([begin, end]).ravel())[::2]


def _windows(timeline: Timeline) -> dict[str, tuple[int, int]]:
    """From when to when each phase of the first run went on."""
    windows: dict[str, tuple[int, int]] = {}
    for run in timeline.runs.to_dict("records")[:1]:
        start, end = int(run["start_ns"]), int(run["end_ns"])
        loop = (int(run["denoise_start_ns"]), int(run["denoise_end_ns"]))
        loop = loop if loop[0] != NONE else (end, end)
        windows = {Phase.ENCODE: (start, loop[0]), Phase.DENOISE: loop, Phase.DECODE: (loop[1], end)}
    return windows


def _weights_held(timeline: Timeline) -> tuple[Times, Times]:
    """Moments at which the weights on the device changed, and how many bytes of them there were from then on."""
    stays = timeline.once(weight_stays)
    size = (-(-stays.weights["size_bytes"].to_numpy() // _BLOCK) * _BLOCK)[stays.weight]
    known = stays.end_ns != ALWAYS
    times, change = np.concatenate([stays.start_ns, stays.end_ns[known]]), np.concatenate([size, -size[known]])
    order = np.lexsort((-change, times))
    return times[order], np.cumsum(change[order])


def _at(times: Times, held: Times, moments: Times) -> Times:
    """The bytes held at these moments."""
    place = np.searchsorted(times, moments, side="right")
    return np.asarray(np.append(np.zeros(1, np.int64), held)[place])
