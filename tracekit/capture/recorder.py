"""Turn what the patches see into rows: which span is open on each thread, and what ended.

The hot path is one `Frame` on a linked per-thread stack and one packed row when it closes: no object survives an
event, so the garbage collector never sees the recording.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tracekit.model import COUNTERS, NONE, SPANS, Progress, Sink, SpanKind


class Frame:
    """An open span. `start_ns` and `end_ns` of a forward are moved inward by its module's own onload and offload.

    `below` is what was open on the thread before it: frames are a linked stack, whose top the thread knows.
    """

    __slots__ = ("below", "end_ns", "fqn", "is_forward", "parent_id", "pristine", "span_id", "start_ns")

    def __init__(self, span_id: int, below: Frame | None, parent_id: int, is_forward: bool, fqn: int) -> None:
        self.span_id = span_id
        self.below = below
        self.parent_id = parent_id
        self.is_forward = is_forward
        self.fqn = fqn  # interned
        self.pristine = True  # no child has begun: what happens now comes before the module's own work
        self.start_ns = 0
        self.end_ns = 0


class Thread:
    """What is going on in one thread."""

    __slots__ = ("copying", "group", "label", "run_index", "thread_id", "top")

    def __init__(self, run_index: int) -> None:
        self.top: Frame | None = None
        self.run_index = run_index
        self.thread_id = threading.get_native_id()
        self.copying = False
        self.label: tuple[int, int] | None = None  # interned FQN and parameter of the weight that is being moved
        self.group: Any = None  # diffusers' ModuleGroup that is being moved


class ThreadLocal(threading.local):
    """The calling thread's `Thread`: one look-up, after which its attributes are plain ones."""

    def __init__(self, threads: dict[int, int], default_run: list[int]) -> None:
        self.thread = Thread(default_run[0])
        threads[kineto_thread_id(threading.get_ident())] = self.thread.thread_id


def kineto_thread_id(ident: int) -> int:
    """What Kineto calls a thread in its trace, from ``threading.get_ident()``, which is pthread_self().

    CUPTI keeps the low 32 bits, Kineto reads them as a signed number and writes its absolute value (sanitizeTid in
    libkineto's output_json.cpp).
    """
    low = ident & 0xFFFFFFFF
    return min(low, (1 << 32) - low)


class Recorder:
    """Writes spans and counters through a sink; knows the open spans of every thread.

    `clock` returns CLOCK_MONOTONIC nanoseconds. `overhead_ns` sums tracekit's own measured time by kind.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.sink = sink
        self.clock = clock
        self.threads: dict[int, int] = {}
        self._default_run = [NONE]
        self.local = ThreadLocal(self.threads, self._default_run)
        self.next_span: Callable[[], int] = itertools.count().__next__
        self.next_copy: Callable[[], int] = itertools.count().__next__
        self._next_run: Callable[[], int] = itertools.count().__next__
        self.intern = sink.intern
        self.pack_span, self.extend_spans = sink.raw(SPANS)
        self._kinds = {kind: sink.intern(kind.value) for kind in SpanKind}
        self.empty = sink.intern("")
        self.overhead_ns: dict[str, int] = {}
        self.h2d_bytes = 0
        self._on_progress = on_progress
        self.component = ""  # what the display calls the current phase
        self._steps_done = 0
        self._run_index = NONE

    def kind_id(self, kind: SpanKind) -> int:
        """The interned id of a span's kind, for packed rows."""
        return self._kinds[kind]

    def push(self, fqn: int) -> Frame:
        """Open a span on this thread; its clock starts when the caller sets `start_ns`."""
        thread = self.local.thread
        below, parent_id = thread.top, NONE
        if below is not None:
            below.pristine = False
            below.end_ns = 0
            parent_id = below.span_id
        thread.top = frame = Frame(self.next_span(), below, parent_id, False, fqn)
        return frame

    def pop(self, frame: Frame, kind: int, name: int, note: int, end_ns: int) -> None:
        """Close `frame`, with whatever an exception left open above it, and write its row. Ids are interned."""
        thread = self.local.thread
        thread.top = frame.below
        self.extend_spans(
            self.pack_span(
                frame.span_id,
                frame.parent_id,
                kind,
                name,
                frame.fqn,
                note,
                thread.run_index,
                thread.thread_id,
                frame.start_ns,
                end_ns,
            )
        )

    @contextmanager
    def span(self, kind: SpanKind, name: str, fqn: str = "", note: str = "") -> Iterator[Frame]:
        """A span around the body, written however the body ends."""
        frame = self.push(self.intern(fqn))
        frame.start_ns = self.clock()
        try:
            yield frame
        finally:
            self.pop(frame, self._kinds[kind], self.intern(name), self.intern(note), self.clock())

    @contextmanager
    def own_work(self, name: str) -> Iterator[None]:
        """A span of tracekit's own work, which also counts as overhead."""
        start = self.clock()
        with self.span(SpanKind.TRACEKIT, name):
            yield
        self.add_overhead(name, self.clock() - start)

    def add_overhead(self, name: str, duration_ns: int) -> None:
        """Count tracekit's own time that is too short for a span of its own."""
        self.overhead_ns[name] = self.overhead_ns.get(name, 0) + duration_ns

    def counter(self, series: str, device_index: int, value: float, t_ns: int | None = None) -> None:
        """One sample of a quantity; `series` names it with its unit."""
        self.sink.append(COUNTERS, series, device_index, self.clock() if t_ns is None else t_ns, value)

    def events_so_far(self) -> int:
        """About how many spans and copies there have been; each call counts as two."""
        return self.next_span() + self.next_copy()

    def begin_run(self, *, every_thread: bool = False) -> int:
        """Number a new run and make it this thread's; with `every_thread`, also that of threads seen from now on."""
        run_index = self._next_run()
        self.local.thread.run_index = run_index
        if every_thread:
            self._default_run[0] = run_index
        self._run_index, self._steps_done = run_index, 0
        return run_index

    def end_run(self) -> None:
        """Leave the run."""
        self.local.thread.run_index = NONE
        self._default_run[0] = NONE

    def step_done(self) -> None:
        """A step ended: hand its rows to the operating system and tell the display."""
        self._steps_done += 1
        with self.own_work("flush"):
            self.sink.flush()
            self.report_progress()

    def report_progress(self) -> None:
        """Tell the display where the run is."""
        if self._on_progress is not None:
            self._on_progress(self.progress())

    def progress(self) -> Progress:
        """Where the run is now; readable from any thread."""
        return Progress(self._run_index, self.component or "setup", self._steps_done, self.h2d_bytes)
