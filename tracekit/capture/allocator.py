"""Bytes allocated and reserved over time, from the history that torch's CUDA caching allocator keeps on request.

The history costs under a microsecond an allocation, where asking for the statistics costs 20 to 150, and unlike
sampling it misses no peak. ``torch.cuda.memory._record_memory_history`` and ``_snapshot`` are torch's documented but
underscored names for it. Its times are the system clock's microseconds.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from tracekit.capture.collector import Collector
from tracekit.capture.recorder import Recorder

MAX_ENTRIES = 1_000_000
"""The allocator keeps the last so many events of a window (a run): about 100 steps of a 12 B parameter transformer."""
MAX_WINDOW_EVENTS = 150_000
"""Host events (forwards, copies) after which a window ends early: each allocates and frees a few times."""
MIN_CHANGE_BYTES = 1 << 20
"""Changes below this are left out of the counters, unless they set a peak."""

_EFFECT = {"alloc": (1, 0), "free_completed": (-1, 0), "segment_alloc": (0, 1), "segment_free": (0, -1)}


class AllocatorHistory(Collector):
    """Writes counter samples of device_allocated_bytes and device_reserved_bytes, and at the end their peaks."""

    def __init__(self, recorder: Recorder, device_index: int) -> None:
        self._recorder = recorder
        self._device_index = device_index
        self._recording = False
        self._events_before = 0
        self._allocated = 0
        self._reserved = 0
        self._peak = (0, 0)
        self._old_peak = (
            torch.cuda.max_memory_allocated(device_index),
            torch.cuda.max_memory_reserved(device_index),
        )

    def available(self) -> bool:
        """False when somebody else records the history already: theirs is left alone."""
        return not torch._C._cuda_isHistoryEnabled()  # the only way to ask; private to torch

    def prime(self) -> None:
        """Begin a window."""
        self._events_before = self._recorder.events_so_far()
        self._allocated = torch.cuda.memory_allocated(self._device_index)
        self._reserved = torch.cuda.memory_reserved(self._device_index)
        torch.cuda.memory._record_memory_history(
            "all", context=None, stacks="python", max_entries=MAX_ENTRIES, device=self._device_index
        )
        self._recording = True
        self._sample(self._recorder.clock())

    def step_ended(self) -> None:
        """Write the window and begin another when it has grown large."""
        if self._recorder.events_so_far() - self._events_before > MAX_WINDOW_EVENTS:
            self.run_ended()

    def run_ended(self) -> None:
        """Write the window and begin another."""
        with self._recorder.own_work("read allocator history"):
            self._stop()
            self.prime()

    def close(self) -> None:
        """Write the last window and the peaks."""
        self._stop()
        counter, index = self._recorder.counter, self._device_index
        # torch's own peaks are exact where they were set after we began; a higher one is older than this profile.
        allocated = torch.cuda.max_memory_allocated(index)
        reserved = torch.cuda.max_memory_reserved(index)
        counter("device_peak_allocated_bytes", index, allocated if allocated > self._old_peak[0] else self._peak[0])
        counter("device_peak_reserved_bytes", index, reserved if reserved > self._old_peak[1] else self._peak[1])

    def _stop(self) -> None:
        if not self._recording:
            return
        self._recording = False
        traces = torch.cuda.memory._snapshot(self._device_index)["device_traces"]
        torch.cuda.memory._record_memory_history(None, device=self._device_index)
        events = traces[self._device_index] if self._device_index < len(traces) else []
        if len(events) >= MAX_ENTRIES:
            # The oldest events are gone: work backwards from what is allocated now.
            self._allocated, self._reserved = self._before(events)
        self._write(events)

    def _before(self, events: list[dict[str, Any]]) -> tuple[int, int]:
        allocated = torch.cuda.memory_allocated(self._device_index)
        reserved = torch.cuda.memory_reserved(self._device_index)
        for event in events:
            on_allocated, on_reserved = _EFFECT.get(event["action"], (0, 0))
            allocated -= on_allocated * _rounded(event["size"])
            reserved -= on_reserved * event["size"]
        return allocated, reserved

    def _write(self, events: list[dict[str, Any]]) -> None:
        to_monotonic = time.monotonic_ns() - time.time_ns()
        peak = written = self._allocated
        for event in events:
            on_allocated, on_reserved = _EFFECT.get(event["action"], (0, 0))
            self._allocated += on_allocated * _rounded(event["size"])
            self._reserved += on_reserved * event["size"]
            if on_reserved or self._allocated > peak or abs(self._allocated - written) >= MIN_CHANGE_BYTES:
                peak, written = max(peak, self._allocated), self._allocated
                self._sample(event["time_us"] * 1000 + to_monotonic)
        self._sample(self._recorder.clock())

    def _sample(self, t_ns: int) -> None:
        self._peak = (max(self._peak[0], self._allocated), max(self._peak[1], self._reserved))
        self._recorder.counter("device_allocated_bytes", self._device_index, self._allocated, t_ns)
        self._recorder.counter("device_reserved_bytes", self._device_index, self._reserved, t_ns)


def _rounded(size_bytes: int) -> int:
    """What an allocation counts for: the history has the bytes asked for, the allocator rounds up to 512."""
    return -(-size_bytes // 512) * 512
