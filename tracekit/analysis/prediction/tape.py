"""The order of work of a stretch of a run: modules' calls, and the host and device time between their bounds.

What the offload mode of the profiled run added (onloads, offloads, copies and waits) is cut out of the host's time, so
that another mode's can be put in its place. So are garbage collections, which are kept as pauses.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.activity import Activity, copy_times
from tracekit.analysis.intervals import Coverage, Times
from tracekit.analysis.launches import LaunchFinder
from tracekit.analysis.prediction.memory import Activations
from tracekit.model import NONE, SpanKind, Timeline
from tracekit.model.text import codes_and_texts, says, take_rows

MAX_STEPS = 12
"""Warm steps that are read: more would change little."""

ALLOCATING = ("Malloc", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemAddress")
"""What is in the names of runtime calls that get device memory."""

StepKey = tuple[int, int]
"""Run and step index."""

_HOOKS = (SpanKind.ONLOAD, SpanKind.OFFLOAD, SpanKind.EMPTY_CACHE, SpanKind.SYNCHRONIZE, SpanKind.TRACEKIT)


class Op(StrEnum):
    """What happens next on the host."""

    ENTER = "enter"  # a module is called: what its offload hooks do before its forward
    LEAVE = "leave"
    WORK = "work"  # host code, and the kernels that it launches
    TRANSFER = "transfer"  # a copy that is no weight's; the host awaits it


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a tape. `host_ns` of a transfer is what it takes once the device is free.

    `allocation_ns` is the part of it in which the driver got device memory, `once_ns` what a first step has beyond warm
    ones (kernels and libraries loaded), which is no work of the same kind. `beside_bytes` is the most device memory
    beside the weights until the next module's call begins or ends. `pause_ns` is what Python's garbage collector took,
    beside `host_ns` and whatever was cut out: it takes as long in any mode. `in_owner`: it is the own work of a module
    that has weights.
    """

    op: Op
    fqn: str = ""
    host_ns: float = 0.0
    device_ns: float = 0.0
    allocation_ns: float = 0.0
    once_ns: float = 0.0
    beside_bytes: int = 0
    pause_ns: float = 0.0
    in_owner: bool = False


@dataclass(frozen=True)
class Tape:
    """The events of one stretch, and how often it is repeated among those that were read."""

    events: tuple[Event, ...]
    repeats: int = 1

    @property
    def host_ns(self) -> float:
        """Host time of the work."""
        return sum(event.host_ns for event in self.events if event.op is Op.WORK)

    @property
    def device_ns(self) -> float:
        """Device time of the work."""
        return sum(event.device_ns for event in self.events)

    @cached_property
    def signature(self) -> tuple[tuple[Op, str], ...]:
        """What tells two orders of work apart."""
        return tuple((event.op, event.fqn) for event in self.events)


class TapeReader:
    """Reads stretches of a timeline's main thread."""

    def __init__(self, timeline: Timeline, activity: Activity, activations: Activations | None) -> None:
        self._timeline = timeline
        self._activity = activity
        self._activations = activations
        spans, copies, calls = timeline.spans, timeline.copies, timeline.run.runtime_calls
        is_forward = (spans["kind"] == SpanKind.FORWARD).to_numpy()
        is_run = (spans["kind"] == SpanKind.RUN).to_numpy()
        thread = spans["thread_id"].to_numpy()
        on_main = np.isin(thread, np.unique(thread[is_run if is_run.any() else is_forward]))
        calls_at = np.flatnonzero(on_main & is_forward)
        keys = (spans[name].to_numpy()[calls_at] for name in ("span_id", "start_ns"))
        self._owners = frozenset(codes_and_texts(timeline.run.parameters["fqn"])[1])
        self._module_calls = take_rows(spans, ["fqn", "start_ns", "end_ns"], calls_at[np.lexsort(tuple(keys))])
        self._away = (
            Coverage.of_rows(spans, on_main & says(spans["kind"], _HOOKS.__contains__))
            | Coverage.of(copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy())
            | called(calls, "Synchronize")
            | activity.collections
        )
        if kernels_in_place(timeline):
            self._away |= activity.kernels
        self._own = Coverage.of_word(spans, "kind", SpanKind.TRACEKIT)
        self._own_or_collecting = self._own | activity.collections
        self._away_or_allocating = self._away | called(calls, *ALLOCATING)
        self._transfers = copies.loc[~copies["is_weight"], ["start_ns", "end_ns"]].sort_values(
            "start_ns", kind="stable"
        )

    @cached_property
    def _kernels(self) -> tuple[Times, Times]:
        """When each kernel was launched, in order, and its device time."""
        ops = self._timeline.run.device_ops
        kernels = ops.loc[ops["op"] == "kernel", ["start_ns", "end_ns", "correlation_id"]]
        launched = LaunchFinder(self._timeline.run.runtime_calls).find(kernels).start_ns
        order = np.argsort(launched, kind="stable")
        took = (kernels["end_ns"] - kernels["start_ns"]).to_numpy()
        return launched[order], np.concatenate([np.zeros(1, np.int64), np.cumsum(took[order])])

    def read(self, start_ns: int, end_ns: int) -> Tape:
        """The tape of ``[start_ns, end_ns)``."""
        marks = sorted([*self._calls(start_ns, end_ns), *self._copies(start_ns, end_ns)], key=lambda mark: mark[:2])
        bounds = np.array([start_ns, *(mark[0] for mark in marks), end_ns], np.int64)
        left, right = bounds[:-1], bounds[1:]
        away = self._away.within(left, right)
        host = np.maximum(right - left - away, 0)
        getting = self._away_or_allocating.within(left, right) - away
        pause = self._own_or_collecting.within(left, right) - self._own.within(left, right)
        launched, before = self._kernels
        device = np.diff(before[np.searchsorted(launched, bounds)])
        activations = self._activations
        beside = np.zeros(len(left), np.int64) if activations is None else activations.between(bounds)
        events: list[Event] = []
        inside: list[str] = []
        rows = zip(host.tolist(), device.tolist(), getting.tolist(), beside.tolist(), pause.tolist(), strict=True)
        for mark, (host_ns, device_ns, getting_ns, most, pause_ns) in zip([None, *marks], rows, strict=True):
            if mark is not None:
                events.append(replace(mark[2], beside_bytes=most))
                if mark[2].op is Op.ENTER:
                    inside.append(mark[2].fqn)
                elif mark[2].op is Op.LEAVE and inside:
                    inside.pop()
            # Kept even when it is empty, so that every step of one order of work has the same tape.
            times = float(host_ns), float(device_ns), float(getting_ns)
            in_owner = bool(inside) and inside[-1] in self._owners
            work = Event(Op.WORK, "", *times, beside_bytes=most, pause_ns=float(pause_ns), in_owner=in_owner)
            events.append(work)
        return Tape(tuple(events))

    @cached_property
    def _later(self) -> pd.DataFrame:
        """The later steps of the runs, as many as are read."""
        steps = self._timeline.steps
        return steps[steps["step_index"] > 0].head(MAX_STEPS)

    @cached_property
    def each_step(self) -> list[Tape]:
        """The later steps of the runs."""
        bounds = zip(self._later["start_ns"], self._later["end_ns"], strict=True)
        return [self.read(int(start), int(end)) for start, end in bounds]

    @cached_property
    def _kinds(self) -> list[list[int]]:
        """The places of the later steps in `each_step`, those in the same order of work together."""
        kinds: dict[tuple[tuple[Op, str], ...], list[int]] = {}
        for place, tape in enumerate(self.each_step):
            kinds.setdefault(tape.signature, []).append(place)
        return list(kinds.values())

    @cached_property
    def _usual(self) -> list[list[int]]:
        """Of each kind, the steps that stand for it."""
        walls = (self._later["end_ns"] - self._later["start_ns"]).tolist()
        return [[kind[at] for at in middle_third([walls[place] for place in kind])] for kind in self._kinds]

    @property
    def usual_places(self) -> list[int]:
        """The places in `each_step` of the steps that stand for warm ones, whatever their order of work."""
        return sorted(itertools.chain.from_iterable(self._usual))

    @property
    def usual_steps(self) -> frozenset[StepKey]:
        """Run and step index of the steps that stand for warm ones."""
        rows = self._later.iloc[self.usual_places]
        return frozenset(zip(rows["run_index"].tolist(), rows["step_index"].tolist(), strict=True))

    def first_step(self) -> Tape:
        """The first step, with what it took beyond the later ones told apart where they do the same work."""
        steps = self._timeline.steps
        tape = self.read(int(steps["start_ns"].iloc[0]), int(steps["end_ns"].iloc[0]))
        alike = [warm for warm in self.steps if warm.signature == tape.signature]
        if not alike:
            return tape
        pairs = zip(tape.events, alike[0].events, strict=True)
        return Tape(tuple(replace(event, once_ns=max(event.host_ns - warm.host_ns, 0.0)) for event, warm in pairs))

    @cached_property
    def steps(self) -> list[Tape]:
        """The later steps, those in the same order of work as one tape with the mean times of the usual ones.

        Not the median of each piece: of times with a long tail only the means add up to the sum's.
        """
        both = zip(self._kinds, self._usual, strict=True)
        return [_mean([self.each_step[place] for place in usual], len(kind)) for kind, usual in both]

    def _calls(self, start_ns: int, end_ns: int) -> list[tuple[int, int, Event]]:
        """Where module calls begin and end: the time, a tie-breaker that keeps them nested, and the event."""
        rows = _beginning(self._module_calls, start_ns, end_ns)
        codes, names = codes_and_texts(rows["fqn"])
        marks: list[tuple[int, int, Event]] = []
        ends = np.minimum(rows["end_ns"].to_numpy(), end_ns).tolist()
        for place, (code, begin, end) in enumerate(zip(codes.tolist(), rows["start_ns"].tolist(), ends, strict=True)):
            fqn = names[code]
            marks.append((begin, place, Event(Op.ENTER, fqn)))
            # Of calls that end together the inner ones, which began last, end first; nothing begins before an end.
            marks.append((max(end, begin), -place if end > begin else place, Event(Op.LEAVE, fqn)))
        return marks

    def _copies(self, start_ns: int, end_ns: int) -> list[tuple[int, int, Event]]:
        starts, ends = _beginning(self._transfers, start_ns, end_ns).to_numpy().T
        waited = (self._activity.kernels | self._activity.collections).within(starts, ends)
        return [
            (int(begin), 0, Event(Op.TRANSFER, "", float(max(took, 0))))
            for begin, took in zip(starts, ends - starts - waited, strict=True)
        ]


def _beginning(rows: pd.DataFrame, start_ns: int, end_ns: int) -> pd.DataFrame:
    """Those of the rows, which are in order, that begin in ``[start_ns, end_ns)``."""
    low, high = np.searchsorted(rows["start_ns"].to_numpy(), [start_ns, end_ns])
    return rows.iloc[low:high]


def kernels_in_place(timeline: Timeline) -> bool:
    """Whether the host computes kernels itself, in the calls that launch them: the emulated device's do."""
    return timeline.run.manifest.device.kind == "emulated"


def called(runtime_calls: pd.DataFrame, *words: str) -> Coverage:
    """When a runtime call with one of these words in its name was going on."""
    chosen = says(runtime_calls["name"], lambda name: any(word in name for word in words))
    return Coverage.of_rows(runtime_calls, chosen)


def in_steps(rows: pd.DataFrame, steps: Collection[StepKey]) -> npt.NDArray[np.bool_]:
    """Which of the rows, of spans or copies, belong to one of these steps."""
    found = np.zeros(len(rows), np.bool_)
    run, step = rows["run_index"].to_numpy(), rows["step_index"].to_numpy()
    for run_index, step_index in steps:
        found |= (run == run_index) & (step == step_index)
    return found


def weight_copy_times(copies: pd.DataFrame, activity: Activity) -> tuple[Times, Times]:
    """Of each copy, what its call took without waiting for kernels before it, and what the transfer itself took.

    A garbage collection inside the call is no part of it.
    """
    start, end = copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()
    call = np.maximum(end - start - (activity.kernels | activity.collections).within(start, end), 0)
    device_start, device_end = copy_times(copies)
    known = (copies["device_start_ns"] != NONE).to_numpy()
    return call, np.where(known, copies["duration_ns"].to_numpy(), np.minimum(call, device_end - device_start))


def middle_third(walls: Sequence[int]) -> list[int]:
    """The places of those in the middle by wall time, at least a third of all and evenly on both sides of the median.

    A run's warm step is its median one: a prediction that took a disturbed step's costs in would contradict it.
    """
    order = sorted(range(len(walls)), key=walls.__getitem__)
    cut = len(walls) // 3
    return sorted(order[cut : len(walls) - cut])


def _mean(tapes: list[Tape], repeats: int) -> Tape:
    each = [
        [(event.host_ns, event.device_ns, event.allocation_ns, event.pause_ns) for event in tape.events]
        for tape in tapes
    ]
    most = np.array([[event.beside_bytes for event in tape.events] for tape in tapes]).max(axis=0)
    events = tuple(
        replace(event, host_ns=host, device_ns=device, allocation_ns=allocation, beside_bytes=beside, pause_ns=pause)
        for event, (host, device, allocation, pause), beside in zip(
            tapes[0].events, np.array(each).mean(axis=0).tolist(), most.tolist(), strict=True
        )
    )
    return Tape(events, repeats)
