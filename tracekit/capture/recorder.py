"""Turn what the patches see into rows: which span is open on each thread, and what ended.

What runs inside the profiled code, at every forward and every copy, are the `Hooks`; here is what happens around them.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tracekit.capture.hooks import make_hooks
from tracekit.model import COUNTERS, NONE, SPANS, Progress, Sink, SpanKind


class Recorder:
    """Writes spans and counters through a sink; knows the open spans of every thread.

    `overhead_ns` sums tracekit's own measured time by kind. `slow_reason` says why the hooks are not compiled, or "".
    """

    def __init__(self, sink: Sink, *, on_progress: Callable[[Progress], None] | None = None) -> None:
        self.sink = sink
        self.clock = time.monotonic_ns
        self.threads: dict[int, int] = {}
        self._default_run = [NONE]
        self.hooks, self.local, self.slow_reason = make_hooks(sink, self.threads, self._default_run)
        self._next_run: Callable[[], int] = itertools.count().__next__
        self.intern = sink.intern
        self._kinds = {kind: sink.intern(kind.value) for kind in SpanKind}
        self.empty = sink.intern("")
        self.overhead_ns: dict[str, int] = {}
        self._on_progress = on_progress
        self._steps_done = 0
        self._run_index = NONE

    @property
    def name(self) -> str:
        """Which hooks record: ``compiled`` or ``python``."""
        return "python" if self.slow_reason else "compiled"

    @property
    def component(self) -> str:
        """What the display calls the current phase."""
        return self.hooks.component

    @component.setter
    def component(self, name: str) -> None:
        """Set it."""
        self.hooks.component = name

    def kind_id(self, kind: SpanKind) -> int:
        """The interned id of a span's kind, for packed rows."""
        return self._kinds[kind]

    @contextmanager
    def span(self, kind: SpanKind, name: str, fqn: str = "", note: str = "") -> Iterator[None]:
        """A span around the body, written however the body ends."""
        kind_id, name_id, note_id = self._kinds[kind], self.intern(name), self.intern(note)
        opened = self.hooks.open(self.intern(fqn))
        try:
            yield
        finally:
            self.hooks.close(opened, kind_id, name_id, note_id)

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

    def write_collections(self) -> None:
        """Write a span for each long garbage collection since the last call."""
        noted = self.hooks.collections
        with suppress(IndexError):  # another thread may take the last one
            while noted:
                generation, start_ns, end_ns, parent_id, run_index, thread_id = noted.pop(0)
                names = SpanKind.GARBAGE, f"generation {generation}", "", ""
                place = run_index, thread_id, start_ns, end_ns
                self.sink.append(SPANS, self.hooks.next_span(), parent_id, *names, *place)

    def events_so_far(self) -> int:
        """About how many spans and copies there have been."""
        return self.hooks.events_so_far()

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
            self.write_collections()
            self.sink.flush()
            self.report_progress()

    def report_progress(self) -> None:
        """Tell the display where the run is."""
        if self._on_progress is not None:
            self._on_progress(self.progress())

    def progress(self) -> Progress:
        """Where the run is now; readable from any thread."""
        return Progress(self._run_index, self.hooks.component or "setup", self._steps_done, self.hooks.h2d_bytes)
