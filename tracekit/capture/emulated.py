"""The emulated device's own record of copies and kernels, as device records."""

from __future__ import annotations

from tracekit.capture.collector import DeviceActivity
from tracekit.capture.recorder import Recorder
from tracekit.device.emulated import EmulatedDevice
from tracekit.model import DEVICE_OPS, NONE


class EmulatedActivity(DeviceActivity):
    """Drains the device's log at every step's end. It runs on the host's clock, so nothing has to be aligned."""

    name = "emulated"

    def __init__(self, recorder: Recorder, device: EmulatedDevice) -> None:
        super().__init__()
        self.alignment_error_ns = 0
        self._recorder = recorder
        self._device = device

    def prime(self) -> None:
        """Start the log now: copies at set-up (resident mode) belong to the record, too."""
        self._device.start_log()

    def step_ended(self) -> None:
        """Write what the log holds."""
        append = self._recorder.sink.append
        for op in self._device.take_log():
            size = op.size_bytes if op.op != "kernel" else NONE
            append(DEVICE_OPS, op.op, op.name, 0, op.thread_id, op.start_ns, op.end_ns, size, op.correlation_id)
        self.sample_memory()

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
