"""Device times of copies from CUDA events, for where CUPTI is refused: no kernels, no copies that no hook saw."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tracekit.capture.collector import DeviceActivity
from tracekit.capture.recorder import Recorder
from tracekit.model import DEVICE_OPS, RUNTIME_CALLS, Direction

_NAMES = {True: f"Memcpy HtoD ({Direction.H2D})", False: f"Memcpy DtoH ({Direction.D2H})"}


@dataclass(slots=True)
class _Pending:
    """A copy between two events; `start_ns` and `end_ns` are when the host issued it."""

    before: torch.cuda.Event
    after: torch.cuda.Event
    start_ns: int
    end_ns: int
    copy_id: int
    size_bytes: int
    to_device: bool
    thread_id: int
    stream_id: int


class CudaEventActivity(DeviceActivity):
    """Records an event before and after each copy, on its stream, and reads them when the device has passed them.

    An event's resolution is about half a microsecond. Events tell durations, not times: the start is given relative to
    a base event that was waited for once, before the run.
    """

    name = "cuda-events"

    def __init__(self, recorder: Recorder, device_index: int) -> None:
        super().__init__()
        self.timer = self
        self._recorder = recorder
        self._device = torch.device("cuda", device_index)
        self._pending: list[_Pending] = []
        self._base: torch.cuda.Event | None = None
        self._base_ns = 0

    def prime(self) -> None:
        """Tie the device's clock to ours: wait for one event, between two readings of our clock."""
        clock = self._recorder.clock
        self._base = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(self._device)
        before = clock()
        self._base.record(torch.cuda.current_stream(self._device))
        self._base.synchronize()
        after = clock()
        self._base_ns = (before + after) // 2
        self.alignment_error_ns = (after - before + 1) // 2

    def start(self) -> torch.cuda.Event:
        """The event before a copy."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def stop(
        self, started: object, copy_id: int, size_bytes: int, call_ns: tuple[int, int], *, to_device: bool
    ) -> None:
        """The event after a copy."""
        if not isinstance(started, torch.cuda.Event):
            return
        stream = torch.cuda.current_stream(self._device)
        after = torch.cuda.Event(enable_timing=True)
        after.record(stream)
        thread_id = self._recorder.local.thread.thread_id
        self._pending.append(
            _Pending(started, after, *call_ns, copy_id, size_bytes, to_device, thread_id, stream.stream_id)
        )

    def step_ended(self) -> None:
        """Write the copies that the device has finished, without waiting for the others."""
        pending, self._pending = self._pending, []
        self._pending = [copy for copy in pending if not self._write(copy)]

    def run_ended(self) -> None:
        """Wait for the device and write the rest."""
        if self._pending:
            self._pending[-1].after.synchronize()
        self.step_ended()

    def close(self) -> None:
        """Write the rest."""
        self.run_ended()

    def _write(self, copy: _Pending) -> bool:
        if self._base is None or not copy.after.query():
            return False
        start = self._base_ns + round(self._base.elapsed_time(copy.before) * 1e6)
        end = max(start, self._base_ns + round(self._base.elapsed_time(copy.after) * 1e6))
        append, index = self._recorder.sink.append, self._device.index or 0
        name = _NAMES[copy.to_device]
        append(DEVICE_OPS, "memcpy", name, index, copy.stream_id, start, end, copy.size_bytes, copy.copy_id)
        append(RUNTIME_CALLS, "cudaMemcpyAsync", copy.thread_id, copy.start_ns, copy.end_ns, copy.copy_id)
        return True
