"""Time a fixed piece of Python again and again: how fast the host is, whatever the profiled code does.

Clocks, other programs and a virtual machine's neighbours on the same core make all host code slower and faster from one
second to the next, twice as slow where two threads share a core. A step that took longer for that reason shows it here,
and so does a run against another.
"""

from __future__ import annotations

from tracekit.capture.collector import Collector
from tracekit.capture.recorder import Recorder
from tracekit.model import HOST_PYTHON, NONE

INTERVAL_NS = 250_000_000
"""In a step longer than this there are samples inside."""
_ROUNDS = 400
_TRIES = 3
"""The fastest counts: the first finds the caches full of other work, and an interrupt may fall into any."""


class HostSpeed(Collector):
    """Writes counter samples of `HOST_PYTHON` as runs begin, where steps end and, when asked, in between."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._sampled_ns = 0

    def run_begins(self) -> None:
        """Take the sample that the first step begins with."""
        self._sample()

    def step_ended(self) -> None:
        """Take the sample between two steps."""
        self._sample()

    def sample_if_due(self, now_ns: int) -> None:
        """Take a sample if the last one is old."""
        if now_ns - self._sampled_ns > INTERVAL_NS:
            self._sample()

    def _sample(self) -> None:
        clock, times = self._recorder.clock, []
        with self._recorder.own_work("time the host"):
            for _ in range(_TRIES):
                start = clock()
                _piece()
                times.append(clock() - start)
        self._sampled_ns = clock()
        self._recorder.counter(HOST_PYTHON, NONE, min(times), self._sampled_ns)


def _piece() -> int:
    total = 0
    for number in range(_ROUNDS):
        total += number * number % 7
    return total
