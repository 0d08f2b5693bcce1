"""What the offload hooks of the profiled run cost the host around the copies, by module."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, median

import numpy as np
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.intervals import Coverage, Times
from tracekit.analysis.prediction.tape import called
from tracekit.model import Direction, SpanKind, Timeline
from tracekit.model.text import codes_and_texts

Pieces = dict[str, list[tuple[float, float]]]


@dataclass
class HookCosts:
    """Means over warm calls (else over all), in ns, by the module whose hook it is.

    `onload` is an onload's host time without its copies and without clearing the allocator's cache (`clearing`, an
    offload's included); `tensors` how many copies it made. `base_ns` and `tensor_ns` split an onload's: what every hook
    costs, and what each weight adds, from a straight line through the modules.
    """

    onload: dict[str, float] = field(default_factory=dict)
    clearing: dict[str, float] = field(default_factory=dict)
    offload: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, int] = field(default_factory=dict)
    base_ns: float = 0.0
    tensor_ns: float = 0.0
    least_offload_ns: float = 0.0
    """The least that an offload took."""

    @classmethod
    def of(cls, timeline: Timeline, activity: Activity) -> HookCosts:
        """The costs of a timeline's onload and offload spans."""
        costs = cls()
        onloads, clearing = _pieces(timeline, activity, SpanKind.ONLOAD)
        costs.onload = {fqn: _warm_mean(times) for fqn, times in onloads.items()}
        offloads, clearing_after = _pieces(timeline, activity, SpanKind.OFFLOAD)
        costs.clearing = {
            fqn: _warm_mean(clearing.get(fqn, [])) + _warm_mean(clearing_after.get(fqn, []))
            for fqn in clearing.keys() | clearing_after.keys()
        }
        costs.offload = {fqn: _warm_mean(times) for fqn, times in offloads.items()}
        costs.least_offload_ns = min((took for times in offloads.values() for _, took in times), default=0.0)
        costs.tensors = _copies_an_onload(timeline)
        costs.base_ns, costs.tensor_ns = _line(costs.onload, costs.tensors)
        return costs

    def usual_offload_ns(self) -> float:
        """What giving a module's weights back takes the host, where this run shows it."""
        return fmean(self.offload.values()) if self.offload else 0.0


def _pieces(timeline: Timeline, activity: Activity, kind: SpanKind) -> tuple[Pieces, Pieces]:
    """Each span's host time without copies, and its share of cache clearing; first of each pair: 1 when warm."""
    spans = timeline.spans
    rows = spans[spans["kind"] == kind]
    start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
    copies = timeline.copies
    copying = Coverage.of(copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy())
    clearing = _spans(timeline, SpanKind.EMPTY_CACHE)
    own = _spans(timeline, SpanKind.TRACEKIT)
    # What the hooks wait for is the schedule's, not theirs.
    waiting = called(timeline.run.runtime_calls, "Synchronize") | _spans(timeline, SpanKind.SYNCHRONIZE)
    away = (copying | clearing | own | waiting).within(start, end) + _probing(timeline, rows)
    # Giving memory back waits for the kernels that may use it: that wait is the schedule's, not the call's.
    cleared = clearing.within(start, end) - _both(clearing, activity.kernels, start, end)
    warm = (rows["step_index"] > 0).to_numpy()
    codes, names = codes_and_texts(rows["fqn"])
    rest: Pieces = {}
    clears: Pieces = {}
    for code, is_warm, took, clear in zip(codes, warm, end - start - away, cleared, strict=True):
        rest.setdefault(names[code], []).append((float(is_warm), float(max(took, 0))))
        clears.setdefault(names[code], []).append((float(is_warm), float(max(clear, 0))))
    return rest, clears


def _probing(timeline: Timeline, spans: pd.DataFrame) -> Times:
    """What tracekit's own probes of host memory took inside each span, beside its copies."""
    samples, copies = timeline.run.host_samples, timeline.copies
    took = pd.Series(samples["probe_ns"].to_numpy(), samples["copy_id"].to_numpy()).clip(lower=0)
    of_copy = took.groupby(level=0).sum().reindex(copies["copy_id"]).fillna(0).to_numpy()
    of_span = pd.Series(of_copy).groupby(copies["span_id"].to_numpy()).sum()
    return np.asarray(of_span.reindex(spans["span_id"]).fillna(0).to_numpy(), np.int64)


def _spans(timeline: Timeline, kind: SpanKind) -> Coverage:
    rows = timeline.spans[timeline.spans["kind"] == kind]
    return Coverage.of(rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy())


def _both(one: Coverage, other: Coverage, start: Times, end: Times) -> Times:
    """Time in both, inside each window."""
    return np.asarray(one.within(start, end) + other.within(start, end) - (one | other).within(start, end))


def _warm_mean(times: list[tuple[float, float]]) -> float:
    return fmean([took for is_warm, took in times if is_warm] or [took for _, took in times] or [0.0])


def _copies_an_onload(timeline: Timeline) -> dict[str, int]:
    """How many weights each module's onload usually brought."""
    spans, copies = timeline.spans, timeline.copies
    onloads = spans[spans["kind"] == SpanKind.ONLOAD]
    fqn_of = dict(zip(onloads["span_id"].tolist(), onloads["fqn"].tolist(), strict=True))
    rows = copies[copies["is_weight"] & (copies["direction"] == Direction.H2D)]
    of_span = Counter(span for span in rows["span_id"].tolist() if span in fqn_of)
    counts: dict[str, list[int]] = {}
    for span, fqn in fqn_of.items():
        counts.setdefault(fqn, []).append(of_span.get(span, 0))
    return {fqn: round(median(each)) for fqn, each in counts.items()}


def _line(onload: dict[str, float], tensors: dict[str, int]) -> tuple[float, float]:
    """What an onload costs whatever it brings, and what each weight adds: neither is negative."""
    known = [(tensors.get(fqn, 0), took) for fqn, took in onload.items() if tensors.get(fqn, 0)]
    if not known:
        return 0.0, 0.0
    count, took = np.array(known, np.float64).T
    if len(np.unique(count)) == 1:
        return 0.0, float(took.sum() / count.sum())
    slope, base = np.polyfit(count, took, 1)
    if base < 0 or slope < 0:
        return (0.0, float(took.sum() / count.sum())) if base < 0 else (float(np.mean(took)), 0.0)
    return float(base), float(slope)
