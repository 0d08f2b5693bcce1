"""What the offload hooks of the profiled run cost the host around the copies, by module."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.coldwarm import onload_rows
from tracekit.analysis.ids import positions
from tracekit.analysis.intervals import Coverage, Times
from tracekit.analysis.prediction.tape import StepKey, called, in_steps
from tracekit.model import NONE, SpanKind, Timeline
from tracekit.model.text import codes_and_texts


@dataclass
class HookCosts:
    """Means over calls in the usual warm steps (else in all), in ns, by the module whose hook it is.

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

    @classmethod
    def of(cls, timeline: Timeline, activity: Activity, usual: Collection[StepKey]) -> HookCosts:
        """The costs of a timeline's onload and offload spans; `usual` are the steps that stand for warm ones."""
        costs = cls()
        beside = _Beside.of(timeline, activity)
        onloads, offloads = (_Pieces.of(timeline, beside, kind, usual) for kind in (SpanKind.ONLOAD, SpanKind.OFFLOAD))
        costs.onload, costs.offload = onloads.usual_means(onloads.rest_ns), offloads.usual_means(offloads.rest_ns)
        clearing, clearing_after = onloads.usual_means(onloads.clearing_ns), offloads.usual_means(offloads.clearing_ns)
        costs.clearing = {
            fqn: clearing.get(fqn, 0.0) + clearing_after.get(fqn, 0.0)
            for fqn in clearing.keys() | clearing_after.keys()
        }
        costs.tensors = _copies_an_onload(timeline)
        costs.base_ns, costs.tensor_ns = _line(costs.onload, costs.tensors)
        return costs

    @cached_property
    def usual_offload_ns(self) -> float:
        """What giving a module's weights back takes the host, where this run shows it."""
        return fmean(self.offload.values()) if self.offload else 0.0


@dataclass(frozen=True)
class _Beside:
    """When something else than a hook's own work went on inside it."""

    away: Coverage
    """Copies, clearing of the cache, tracekit's own work, garbage collections, and waiting: what the hooks wait for is
    the schedule's."""
    others: Coverage
    """Kernels and garbage collections."""
    clearing_or_others: Coverage
    probe_span_id: Times
    probe_ns: Times
    """tracekit's own probes of host memory: the spans that they were in, and what they took, beside its copies."""

    @classmethod
    def of(cls, timeline: Timeline, activity: Activity) -> _Beside:
        copies = timeline.copies
        copying = Coverage.of(copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy())
        kinds = SpanKind.EMPTY_CACHE, SpanKind.TRACEKIT, SpanKind.SYNCHRONIZE
        clearing, own, waiting = (Coverage.of_word(timeline.spans, "kind", kind) for kind in kinds)
        waiting |= called(timeline.run.runtime_calls, "Synchronize")
        others = activity.kernels | activity.collections
        samples = timeline.run.host_samples
        probed = positions(copies["copy_id"].to_numpy(), samples["copy_id"].to_numpy())
        known = (probed != NONE) & (samples["probe_ns"] > 0).to_numpy()
        return cls(
            copying | clearing | own | waiting | activity.collections,
            others,
            clearing | others,
            copies["span_id"].to_numpy()[probed[known]],
            samples["probe_ns"].to_numpy()[known],
        )

    def probing_ns(self, span_ids: Times) -> Times:
        """How long probes took in each of these spans."""
        total = np.zeros(len(span_ids), np.int64)
        at = positions(span_ids, self.probe_span_id)
        np.add.at(total, at[at != NONE], self.probe_ns[at != NONE])
        return total


@dataclass(frozen=True)
class _Pieces:
    """Each span's host time without copies, and its share of cache clearing; both 0 at least."""

    module: Times
    names: list[str]
    is_usual: npt.NDArray[np.bool_]
    is_warm: npt.NDArray[np.bool_]
    rest_ns: Times
    clearing_ns: Times

    @classmethod
    def of(cls, timeline: Timeline, beside: _Beside, kind: SpanKind, usual: Collection[StepKey]) -> _Pieces:
        """The pieces of the spans of one kind."""
        rows = timeline.spans.loc[
            timeline.spans["kind"] == kind, ["span_id", "fqn", "run_index", "step_index", "start_ns", "end_ns"]
        ]
        start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
        away = beside.away.within(start, end) + beside.probing_ns(rows["span_id"].to_numpy())
        # Giving memory back waits for the kernels that may use it: that wait is the schedule's, not the call's.
        cleared = beside.clearing_or_others.within(start, end) - beside.others.within(start, end)
        module, names = codes_and_texts(rows["fqn"])
        is_warm = (rows["step_index"] > 0).to_numpy()
        rest_ns, clearing_ns = np.maximum(end - start - away, 0), np.maximum(cleared, 0)
        return cls(module, names, in_steps(rows, usual), is_warm, rest_ns, clearing_ns)

    def usual_means(self, times: Times) -> dict[str, float]:
        """The mean by module over its spans in the usual steps; without one over its warm spans, else over all."""
        counts = np.ones(len(self.module), np.bool_)
        for chosen in (self.is_warm, self.is_usual):
            some = np.bincount(self.module[chosen], minlength=len(self.names)) > 0
            counts = np.where(some[self.module], chosen, counts)
        number = np.bincount(self.module[counts], minlength=len(self.names))
        total = np.bincount(self.module[counts], times[counts], minlength=len(self.names))
        return {self.names[code]: float(total[code] / number[code]) for code in np.flatnonzero(number)}


def _copies_an_onload(timeline: Timeline) -> dict[str, int]:
    """How many weights each module's onload usually brought."""
    spans, copies = timeline.spans, timeline.copies
    onloads = spans.loc[spans["kind"] == SpanKind.ONLOAD, ["span_id", "fqn"]]
    brought_in = copies["span_id"].to_numpy()[timeline.once(onload_rows)]
    place = positions(onloads["span_id"].to_numpy(), brought_in)
    brought = pd.Series(np.bincount(place[place >= 0], minlength=len(onloads)))
    usual = brought.groupby(onloads["fqn"].to_numpy(), observed=True).median()
    return {str(fqn): round(count) for fqn, count in usual.items()}


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
