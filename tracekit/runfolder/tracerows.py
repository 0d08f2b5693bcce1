"""Turn a trace's events into rows of a run folder; what an event does not say stays without a value."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracekit.errors import UsageError
from tracekit.model import (
    COPIES,
    DEVICE_OPS,
    FRAMES,
    HOST_SAMPLES,
    NONE,
    RUNTIME_CALLS,
    SPANS,
    Direction,
    HostMemory,
    Phase,
    SpanKind,
)
from tracekit.model.kinetojson import DEVICE_OPS_BY_CATEGORY, KINDS_IN_NAMES, PROFILER_STEP, RUNTIME_CATEGORIES, to_ns
from tracekit.runfolder.tracestream import TraceArgs, TraceEvent
from tracekit.runfolder.writer import RunWriter

_MAX_US = 1e15  # 31 years: sums of two times stay below what the tables hold
_MAX_ID = (1 << 31) - 1
_MAX_SIZE = (1 << 63) - 1
_ANNOTATIONS = frozenset({"user_annotation", "Trace"})
"""Kineto's categories of what the program named itself, and of the profiler's own window."""
_OWN_KINDS = frozenset(SpanKind)
_COPY, _COMPONENT, _FRAME = "copy", "component", "python_function"
_DERIVED = frozenset({"phase", _COMPONENT, "left_out"})
"""Slices of tracekit's own that analysis makes again from the others."""


@dataclass
class TraceFacts:
    """What the events say of the whole: for the manifest."""

    kept: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    pipeline_class: str = ""
    components: dict[str, str] = field(default_factory=dict)
    devices: set[int] = field(default_factory=set)
    host_pid: int = 0


class TraceRows:
    """Writes each event's row at once, except for spans and copies, which `finish` nests and numbers."""

    def __init__(self, writer: RunWriter) -> None:
        self.facts = TraceFacts()
        self._writer = writer
        self._spans = _Rows("kind", "name", "fqn", "note", "run")
        self._copies = _Rows("direction", "bytes", "fqn", "parameter", "operation", "memory", "file", "offset", "run")
        self._samples: dict[int, tuple[float, int]] = {}
        self._step_names: set[int] = set()

    def add(self, events: Iterable[TraceEvent]) -> None:
        """Take the events over.

        Raises:
            UsageError: one says what no profiler writes, or the disk is full.
        """
        for event in events:
            if event.ph == "X":
                self._add(event)

    def finish(self, *, is_tracekits: bool) -> TraceFacts:
        """Write spans and copies; those of tracekit's own kinds only if the trace is tracekit's."""
        kinds = self._spans.columns["kind"]
        intern = self._writer.intern
        if is_tracekits and intern(SpanKind.RUN) in kinds:
            # Its steps are derived, and the spans that they are derived from are there.
            self._spans.drop("name", self._step_names)
        if not is_tracekits:
            self._spans.keep_only("kind", {intern(SpanKind.ANNOTATION)})
            self._copies.clear()
            self.facts.components.clear()
            self.facts.pipeline_class = ""
        self._write_nested()
        self.facts.kept["spans"], self.facts.kept["copies"] = len(self._spans), len(self._copies)
        return self.facts

    def _add(self, event: TraceEvent) -> None:
        start, end = _times(event)
        category, args, append = event.cat, event.args, self._writer.append
        if category in DEVICE_OPS_BY_CATEGORY:
            device, stream = _int(args.device, 0, _MAX_ID, 0), _int(args.stream, 0, _MAX_SIZE, 0)
            size, correlation = _int(args.bytes, 0, _MAX_SIZE), _int(args.correlation, 0, _MAX_SIZE)
            op = DEVICE_OPS_BY_CATEGORY[category]
            append(DEVICE_OPS, op, event.name, device, stream, start, end, size, correlation)
            self.facts.devices.add(device)
            self.facts.kept["device operations"] += 1
        elif category in RUNTIME_CATEGORIES:
            append(RUNTIME_CALLS, event.name, _thread(event), start, end, _int(args.correlation, 0, _MAX_SIZE))
            self.facts.kept["runtime calls"] += 1
        elif category == _FRAME:
            append(FRAMES, event.name, _thread(event), start, end)
            self.facts.kept["Python frames"] += 1
        elif category in _ANNOTATIONS:
            is_step = event.name.startswith(PROFILER_STEP)
            if is_step:
                self._step_names.add(self._writer.intern(event.name))
            self._add_span(event, start, end, SpanKind.ANNOTATION, event.name, 0 if is_step else NONE)
        elif category in _OWN_KINDS:
            kind = SpanKind(category)
            self._add_span(event, start, end, kind, _span_name(kind, event), _run_index(args))
        elif category == _COPY:
            self._add_copy(event, start, end)
        elif category in _DERIVED:
            if category == _COMPONENT:
                self.facts.components[event.name] = _text(args.class_)
        else:
            self.facts.left_out[category] += 1

    def _add_span(self, event: TraceEvent, start: int, end: int, kind: SpanKind, name: str, run: int) -> None:
        intern, args = self._writer.intern, event.args
        if kind is SpanKind.RUN:
            self.facts.pipeline_class = self.facts.pipeline_class or name
            self.facts.host_pid = _int(event.pid, 1, _MAX_ID, 0)
        texts = (intern(text) for text in (kind, name, _text(args.fqn), _text(args.note)))
        self._spans.append(start, end, _thread(event), *texts, run)

    def _add_copy(self, event: TraceEvent, start: int, end: int) -> None:
        intern, args = self._writer.intern, event.args
        if args.direction not in (Direction.H2D, Direction.D2H):
            # Some other tool's: only the device's own record of a copy is Kineto's.
            self.facts.left_out[event.cat] += 1
            return
        memory = args.host_memory if args.host_memory in tuple(HostMemory) else HostMemory.UNKNOWN
        resident, read = _share(args.resident_before), _int(args.read_bytes, 0, _MAX_SIZE)
        if resident == resident or read != NONE:
            self._samples[len(self._copies)] = resident, read
        self._copies.append(
            start, end, _thread(event), intern(args.direction), _int(args.bytes, 0, _MAX_SIZE, 0),
            intern(_text(args.fqn)), intern(_text(args.parameter)), intern(_text(args.operation)), intern(memory),
            intern(_text(args.file)), _int(args.file_offset, 0, _MAX_SIZE), _run_index(args),
        )  # fmt: skip

    def _write_nested(self) -> None:
        """Number spans and copies in the order of their start, each with the span around it on its thread."""
        spans, copies = self._spans, self._copies
        start, end, thread = (
            np.concatenate([np.array(rows.columns[name], np.int64) for rows in (spans, copies)])
            for name in ("start", "end", "thread")
        )
        is_copy = np.arange(len(start)) >= len(spans)
        open_spans: dict[int, list[tuple[int, int]]] = {}
        next_span = next_copy = 0
        for row in np.lexsort((is_copy, -end, start)).tolist():
            stack = open_spans.setdefault(int(thread[row]), [])
            while stack and stack[-1][0] < end[row]:
                stack.pop()
            around = stack[-1][1] if stack else NONE
            if is_copy[row]:
                self._write_copy(row - len(spans), next_copy, around)
                next_copy += 1
            else:
                self._write_span(row, next_span, around)
                stack.append((int(end[row]), next_span))
                next_span += 1

    def _write_span(self, row: int, span_id: int, parent_id: int) -> None:
        pack, extend = self._writer.raw(SPANS)
        start, end, thread, kind, name, fqn, note, run = self._spans.row(row)
        extend(pack(span_id, parent_id, kind, name, fqn, note, run, thread, start, end))

    def _write_copy(self, row: int, copy_id: int, span_id: int) -> None:
        pack, extend = self._writer.raw(COPIES)
        start, end, thread, direction, size, fqn, parameter, operation, memory, file, offset, run = self._copies.row(
            row
        )
        empty = self._writer.intern("")
        extend(
            pack(
                copy_id, span_id, run, thread, direction, size, start, end, fqn, parameter, operation, memory,
                NONE, file, offset, empty, NONE, False,
            )
        )  # fmt: skip
        if row in self._samples:
            self._writer.append(HOST_SAMPLES, copy_id, *self._samples[row], NONE, NONE, NONE, NONE)


class _Rows:
    """Rows of integers as columns: eight bytes a value, where millions of tuples would take ten times that."""

    def __init__(self, *names: str) -> None:
        self.columns = {name: array("q") for name in ("start", "end", "thread", *names)}

    def __len__(self) -> int:
        return len(self.columns["start"])

    def append(self, *values: int) -> None:
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def row(self, index: int) -> list[int]:
        return [column[index] for column in self.columns.values()]

    def keep_only(self, name: str, values: set[int]) -> None:
        self._take([value in values for value in self.columns[name]])

    def drop(self, name: str, values: set[int]) -> None:
        self._take([value not in values for value in self.columns[name]])

    def clear(self) -> None:
        self._take([False] * len(self))

    def _take(self, kept: list[bool]) -> None:
        mask = np.array(kept, np.bool_)
        for name, column in self.columns.items():
            self.columns[name] = array("q", np.array(column, np.int64)[mask].tobytes())


def _times(event: TraceEvent) -> tuple[int, int]:
    # Before the conversion: the largest floats would come out infinite.
    if not (0 <= event.ts <= _MAX_US and event.dur <= _MAX_US):
        raise UsageError(
            f"the trace is damaged: its event {event.name[:40]!r} is at {event.ts:g} us for {event.dur:g} us"
        )
    start = to_ns(event.ts)
    return start, start + to_ns(max(event.dur, 0.0))


def _thread(event: TraceEvent) -> int:
    """The thread's number; 0 for what is no thread, such as Kineto's row of profiler windows."""
    text = str(event.tid)
    return _int(int(text), 0, _MAX_SIZE, 0) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _run_index(args: TraceArgs) -> int:
    """Set-up is part of no run: its run is derived."""
    return NONE if args.phase == Phase.SETUP else _int(args.run_index, 0, _MAX_ID)


def _span_name(kind: SpanKind, event: TraceEvent) -> str:
    """The span's own name: render/hostslices.py makes a slice's name of it and the path."""
    if kind is SpanKind.FORWARD:
        return _text(event.args.class_) or event.name
    return event.name.removeprefix(f"{kind}: ") if kind in KINDS_IN_NAMES else event.name


def _int(value: Any, low: int, high: int, default: int = NONE) -> int:
    return value if type(value) is int and low <= value <= high else default


def _share(value: Any) -> float:
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else float("nan")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
