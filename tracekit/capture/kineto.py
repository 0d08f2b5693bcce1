"""CUPTI's record of copies, kernels and runtime calls, through torch.profiler (Kineto).

Kineto hands its records over only when it stops, which synchronises: a window is one run, or on long runs as many
steps as stay well below Kineto's buffer limit, past which it drops records. A window's first and last records are
marks (event records, which do not synchronise) that tie Kineto's clock to ours.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import torch
from torch.profiler import ProfilerActivity, profile

from tracekit.capture.clock import Bracket, align
from tracekit.capture.collector import DeviceActivity
from tracekit.capture.recorder import Recorder
from tracekit.model import DEVICE_OPS, RUNTIME_CALLS
from tracekit.model.kinetojson import DEVICE_OPS_BY_CATEGORY, RUNTIME_CATEGORIES, KinetoEvent, KinetoTrace, to_ns

MARKS = 16
"""Marks at each end of a window: the tightest of them bound the clocks' offset to a few microseconds."""
MAX_WINDOW_EVENTS = 150_000
"""Host events (forwards, copies) after which a window is closed at the next step's end.

A forward of a leaf module launches a few kernels. Kineto keeps 128 MB by default, about 600,000 launches. That limit
cannot be raised from here: with KINETO_CONFIG naming a file that sets ACTIVITIES_MAX_GPU_BUFFER_SIZE_MB to 1, a window
of 60,000 kernels still came whole (torch 2.11), so the file is not read.
"""
MAX_WINDOW_NS = 60_000_000_000
"""A window also ends at the first step's end after so long: compiled regions launch many kernels in few host events."""

_KINDS = {*DEVICE_OPS_BY_CATEGORY, *RUNTIME_CATEGORIES}


class KinetoActivity(DeviceActivity):
    """Device records from CUPTI, one window a run."""

    name = "cupti"

    def __init__(self, recorder: Recorder, device_index: int) -> None:
        super().__init__()
        self._recorder = recorder
        self._device_index = device_index
        self._profiler: profile | None = None
        self._marks: list[tuple[int, int]] = []
        self._events_before = 0
        self._opened_ns = 0

    def refusal(self) -> str:
        """Why CUPTI gives no records here; empty when it does.

        Kineto serves one profiler at a time, and starting a second would end the program's own: that is asked first.

        Opens and closes a window around a small copy and a kernel, whose records must be in it. This also pays CUPTI's
        start-up, which would otherwise land in the first step.
        """
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined] # private to torch: the only way to ask
            return "the program runs torch.profiler itself"
        try:
            with torch.cuda.device(self._device_index):
                self._open()
                torch.ones(8).cuda().add_(1)
                events, _ = self._stop()
        except RuntimeError as error:
            return str(error).splitlines()[0]
        if {"gpu_memcpy", "kernel"} <= {event.cat for event in events}:
            return ""
        return "its window is empty: another profiler may hold it, or the driver reserves it for administrators"

    def prime(self) -> None:
        """Open a window for what is copied at set-up."""
        self._open()

    def run_begins(self) -> None:
        """Close the set-up's window and open the run's."""
        self.run_ended()
        with self._recorder.own_work("cupti start"):
            self._open()

    def step_ended(self) -> None:
        """Close the window and open another when it has grown large."""
        recorder = self._recorder
        if (
            recorder.events_so_far() - self._events_before > MAX_WINDOW_EVENTS
            or recorder.clock() - self._opened_ns > MAX_WINDOW_NS
        ):
            self.run_begins()

    def run_ended(self) -> None:
        """Close the window and write its records."""
        if self._profiler is None:
            return
        with self._recorder.own_work("cupti stop"):
            events, base_ns = self._stop()
            self._write(events, base_ns)

    def close(self) -> None:
        """Write the open window."""
        self.run_ended()

    def _open(self) -> None:
        self._events_before = self._recorder.events_so_far()
        self._opened_ns = self._recorder.clock()
        self._profiler = profile(activities=[ProfilerActivity.CUDA])
        self._profiler.start()
        self._marks = self._mark()

    def _mark(self) -> list[tuple[int, int]]:
        clock = self._recorder.clock
        marks = []
        with torch.cuda.device(self._device_index):
            event = torch.cuda.Event()
            for _ in range(MARKS):
                before = clock()
                event.record()
                marks.append((before, clock()))
        return marks

    def _stop(self) -> tuple[list[KinetoEvent], int]:
        profiler, self._profiler = self._profiler, None
        if profiler is None:
            return [], 0
        self._marks += self._mark()
        profiler.stop()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "window.json"
            profiler.export_chrome_trace(str(path))
            trace = msgspec.json.decode(path.read_bytes(), type=KinetoTrace)
        events = [event for event in trace.traceEvents if event.ph == "X" and event.cat in _KINDS]
        events.sort(key=lambda event: event.ts)
        return events, trace.baseTimeNanoseconds

    def _write(self, events: list[KinetoEvent], base_ns: int) -> None:
        """Rows of a window, on our clock; the marks are tracekit's own and left out."""
        marks = [event for event in events if event.name.startswith("cudaEventRecord")]
        marks = marks[:MARKS] + marks[-MARKS:]
        aligned = None
        if len(marks) == len(self._marks):
            aligned = align(
                Bracket(before, after, to_ns(event.ts), to_ns(event.ts + event.dur))
                for (before, after), event in zip(self._marks, marks, strict=True)
            )
        if aligned is None:
            # Kineto's times are the system's: less exact, and it says so.
            self.counts["windows_without_marks"] = self.counts.get("windows_without_marks", 0) + 1
            offset, error = time.monotonic_ns() - time.time_ns() + base_ns, 1_000_000
        else:
            offset, error = aligned.offset_ns, aligned.error_ns
        self.alignment_error_ns = max(error, self.alignment_error_ns or 0)
        own = {id(event) for event in marks}
        append, threads = self._recorder.sink.append, self._recorder.threads
        memcpys = 0
        for event in events:
            start = to_ns(event.ts) + offset
            end = start + to_ns(event.dur)
            op = DEVICE_OPS_BY_CATEGORY.get(event.cat)
            args = event.args
            if op is not None:
                memcpys += op == "memcpy"
                append(DEVICE_OPS, op, event.name, args.device, args.stream, start, end, args.bytes, args.correlation)
            elif id(event) not in own:
                tid = int(event.tid)
                append(RUNTIME_CALLS, event.name, threads.get(tid, tid), start, end, args.correlation)
        self.counts["device_memcpys"] = self.counts.get("device_memcpys", 0) + memcpys
