"""Python function calls during runs, through VizTracer.

VizTracer's times are CLOCK_MONOTONIC microseconds, as ours: a test holds it to that.
"""

from __future__ import annotations

from pathlib import Path

from viztracer import VizTracer

from tracekit.capture.collector import Collector
from tracekit.capture.recorder import Recorder
from tracekit.model import FRAMES

MAX_ENTRIES = 2_000_000
"""VizTracer keeps the last so many calls of a run in a ring."""
MIN_DURATION_US = 10
"""Shorter calls are left out: they would be most of the record and none of the time."""

_PACKAGE = f"({Path(__file__).parent.parent}/"


class FrameRecorder(Collector):
    """Records the Python calls of each run, tracekit's own files left out."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tracer: VizTracer | None = None
        self.overflowed = False

    def run_begins(self) -> None:
        """Start tracing this run's calls."""
        self._tracer = VizTracer(
            tracer_entries=MAX_ENTRIES,
            verbose=0,
            ignore_c_function=True,
            ignore_frozen=True,
            min_duration=MIN_DURATION_US,
            register_global=False,
        )
        self._tracer.start()

    def run_ended(self) -> None:
        """Stop tracing and write the calls."""
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        tracer.stop()
        with self._recorder.own_work("write python frames"):
            tracer.parse()
            data = tracer.data
            tracer.clear()
            self.overflowed |= bool(data.get("viztracer_metadata", {}).get("overflow"))
            self._write(data["traceEvents"])

    def close(self) -> None:
        """Write what an interrupted run left."""
        self.run_ended()

    def _write(self, events: list[dict[str, object]]) -> None:
        append = self._recorder.sink.append
        for event in events:
            # VizTracer's exclude_files would leave out what our wrappers call, too: the profiled code itself.
            if event["ph"] == "X" and _PACKAGE not in str(event["name"]):
                start = round(float(event["ts"]) * 1000)  # type: ignore[arg-type]
                end = start + round(float(event["dur"]) * 1000)  # type: ignore[arg-type]
                append(FRAMES, str(event["name"]), int(event["tid"]), start, end)  # type: ignore[call-overload]
