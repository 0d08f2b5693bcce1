"""The emulated device's own record of copies and kernels, as device records and as the calls that asked for them."""

from __future__ import annotations

from tracekit.capture.collector import DeviceActivity
from tracekit.capture.recorder import Recorder
from tracekit.device.emulated import EmulatedDevice
from tracekit.model import DEVICE_OPS, NONE, RUNTIME_CALLS

_CALLS = {"memcpy": "emulated memcpy", "kernel": "emulated launch", "memset": "emulated memset"}
"""What the call behind each kind of operation is named: no CUDA call, and it says so."""
_MEMSET = "Memset (Device)"
"""Kineto's name, by which other tools tell it from a kernel; the device's own record names torch's operator."""


class EmulatedActivity(DeviceActivity):
    """Drains the device's log at every step's end. It runs on the host's clock, so nothing has to be aligned."""

    name = "emulated"

    def __init__(self, recorder: Recorder, device: EmulatedDevice) -> None:
        super().__init__()
        self.alignment_error_ns = 0
        self._recorder = recorder
        self._device = device
        self._device_ops = recorder.sink.raw(DEVICE_OPS)
        self._runtime_calls = recorder.sink.raw(RUNTIME_CALLS)

    def prime(self) -> None:
        """Start the log now: copies at set-up (resident mode) belong to the record, too."""
        self._device.start_log()

    def step_ended(self) -> None:
        """Write what the log holds."""
        with self._recorder.own_work("drain the device's log"):
            self._drain()
        self.sample_memory()

    def _drain(self) -> None:
        intern = self._recorder.intern
        (pack_op, add_op), (pack_call, add_call) = self._device_ops, self._runtime_calls
        for op in self._device.take_log():
            name = op.name if op.op != "memset" else _MEMSET
            size = op.size_bytes if op.op != "kernel" else NONE
            times = op.start_ns, op.end_ns
            add_op(pack_op(intern(op.op), intern(name), 0, op.thread_id, *times, size, op.correlation_id))
            # The device works inside the call, so the call lasts as long as the operation.
            add_call(pack_call(intern(_CALLS[op.op]), op.thread_id, *times, op.correlation_id))

    def run_ended(self) -> None:
        """Write what the log holds."""
        self.step_ended()

    def sample_memory(self) -> None:
        """Counter samples of the device's memory."""
        memory = self._device.memory()
        counter, now = self._recorder.counter, self._recorder.clock()
        counter("device_allocated_bytes", 0, memory.allocated_bytes, now)
        counter("device_reserved_bytes", 0, memory.reserved_bytes, now)

    def close(self) -> None:
        """Write the rest, and stop the log."""
        self.step_ended()
        self._device.stop_log()
        memory = self._device.memory()
        self._recorder.counter("device_peak_allocated_bytes", 0, memory.peak_allocated_bytes)
        self._recorder.counter("device_peak_reserved_bytes", 0, memory.peak_reserved_bytes)
        if self._device.dropped_ops:
            self.counts["device_records_dropped"] = self._device.dropped_ops
