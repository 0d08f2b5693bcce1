"""Device memory that a run took beside its weights: activations and what the libraries keep, by phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracekit.analysis.coldwarm import onload_rows
from tracekit.analysis.intervals import Times
from tracekit.model import NONE, Phase, SpanKind, Timeline
from tracekit.model.text import codes_and_texts

_BLOCK = 512
_UNSAMPLED = 1 << 20
"""Changes of allocated memory below this have no sample of their own on CUDA."""


@dataclass(frozen=True)
class Activations:
    """Bytes beside the weights: the most in each phase, as expected and at most, and what the allocator's cache adds.

    On CUDA every allocation is in the record. On the emulated device memory is only sampled between modules: the peak
    less the weights that were always there stands for every phase.
    """

    expected: dict[str, int]
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
        times, held = _weights_held(timeline)
        at = allocated["t_ns"].to_numpy()
        beside = allocated["value"].to_numpy() - _at(times, held, at)
        peak = max(float(np.nan_to_num(peaks["allocated"])), float(allocated["value"].max()) if len(allocated) else 0.0)
        reserved = counters.loc[counters["series"] == "device_reserved_bytes", "value"].max()
        reserved = max(float(np.nan_to_num(peaks["reserved"])), float(np.nan_to_num(reserved)))
        expected, most = {}, {}
        for phase, (start, end) in _windows(timeline).items():
            inside = beside[(at >= start) & (at <= end)]
            sampled = max(float(inside.max()) if len(inside) else 0.0, 0.0)
            if timeline.run.manifest.device.kind == "cuda" and len(inside):
                expected[phase], most[phase] = round(sampled), round(sampled) + _UNSAMPLED
            else:
                kept = float(_at(times, held, np.array([start]))[0])
                expected[phase] = most[phase] = round(max(peak - kept, sampled))
        return cls(expected, most, round(max(reserved - peak, 0)))


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
    """Moments at which the weights on the device changed, and how many bytes of them there were from then on.

    A weight is there from the start of its copy to the end of the next offload of the module whose onload brought it;
    one that no onload span brought stays.
    """
    spans, copies = timeline.spans, timeline.copies
    copies = copies[["start_ns", "size_bytes", "span_id"]].iloc[timeline.once(onload_rows)]
    came = copies["start_ns"].to_numpy()
    size = -(-copies["size_bytes"].to_numpy() // _BLOCK) * _BLOCK
    codes, texts = codes_and_texts(spans["fqn"])
    nameless = texts.index("") if "" in texts else NONE
    is_onload_span, is_offload = ((spans["kind"] == kind).to_numpy() for kind in (SpanKind.ONLOAD, SpanKind.OFFLOAD))
    onload = pd.Index(spans["span_id"].to_numpy()[is_onload_span]).get_indexer(copies["span_id"].to_numpy())
    leader = np.where(onload >= 0, np.append(codes[is_onload_span], NONE)[onload], NONE)
    dropper, ended = codes[is_offload], spans["end_ns"].to_numpy()[is_offload]
    gone = _next_end(dropper, ended, leader, came)
    # An offload without a module, at a run's end, is of everything that is still there.
    at_end = _next_end(dropper, ended, np.full(len(came), nameless), came)
    gone = np.where((leader == NONE) | (leader == nameless), NONE, np.where(gone == NONE, at_end, gone))
    known = gone != NONE
    times, change = np.concatenate([came, gone[known]]), np.concatenate([size, -size[known]])
    order = np.lexsort((-change, times))
    return times[order], np.cumsum(change[order])


def _next_end(dropper: Times, ended: Times, leader: Times, came: Times) -> Times:
    """When the leader's next offload ended from each moment on; `NONE` where there is none."""
    moments, rank = np.unique(ended, return_inverse=True)
    # One sorted row of all offloads, leader by leader: ranks stand for times, so that a leader's own stay together.
    count = len(moments) + 1
    offloads = np.append(np.sort(dropper * count + rank.reshape(-1)), np.iinfo(np.int64).max)
    found = offloads[np.searchsorted(offloads, leader * count + np.searchsorted(moments, came))]
    return np.where(found // count == leader, np.append(moments, NONE)[found % count], NONE)


def _at(times: Times, held: Times, moments: Times) -> Times:
    """The bytes held at these moments."""
    place = np.searchsorted(times, moments, side="right")
    return np.asarray(np.append(np.zeros(1, np.int64), held)[place])
