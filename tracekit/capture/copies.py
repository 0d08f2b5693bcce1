"""Record every copy between host and device that goes through a method of Tensor.

Tensor's methods are patched rather than a dispatch mode entered: a mode costs half of a small model's time. What
Tensor's methods do not see (``torch.tensor(..., device=...)``, copies inside C++ operators) is in the device's own
record. ``torch.tensor`` and its kin must not be patched: ``torch.device("meta")`` as a context, which loads models,
knows them by identity and remembers what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from tracekit.capture import crossing
from tracekit.capture.hostmemory import UNKNOWN, HostMemoryMap
from tracekit.capture.hostprobe import MIN_BYTES, HostProbe
from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import COPIES, NONE, Direction

_INTO_SELF = ("copy_", "__setitem__")
_TO_HOST = ("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__complex__", "__index__")
_METHODS: dict[str, crossing.Predicate] = {
    "cuda": crossing.from_host,
    "copy_": crossing.copy_,
    "__setitem__": crossing.setitem,
    **dict.fromkeys(_TO_HOST, crossing.to_host),
}


class CopyTimer(Protocol):
    """Times copies on the device, where the device keeps no record of its own."""

    def start(self) -> object:
        """Called right before a copy; what it returns goes to `stop`."""

    def stop(
        self, started: object, copy_id: int, size_bytes: int, call_ns: tuple[int, int], *, to_device: bool
    ) -> None:
        """Called after the copy was issued; `call_ns` is when the call began and returned."""


class CopyRecorder:
    """Writes one row of the copies table for every call that moved a tensor between host and device.

    `timer`, when set, is told of each.
    """

    def __init__(
        self, recorder: Recorder, registry: ModuleRegistry, memory: HostMemoryMap, probe: HostProbe | None
    ) -> None:
        self._recorder = recorder
        self._registry = registry
        self._memory = memory
        self._probe = probe
        self.timer: CopyTimer | None = None
        self._pack, self._extend = recorder.sink.raw(COPIES)
        self._to_device = recorder.intern(Direction.H2D.value)
        self._to_host = recorder.intern(Direction.D2H.value)
        self._devices: dict[torch.device, int] = {}
        self._no_label = (recorder.empty, recorder.empty)

    def install(self, patches: Patches) -> None:
        """Patch Tensor's copying methods."""
        patches.wrap(torch.Tensor, "to", self._to)
        for name, crosses in _METHODS.items():
            self._install_method(patches, name, crosses)

    def _to(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """``Tensor.to`` is called far more often than it copies, so that nothing is called to find out.

        Inside accelerate's hooks torch's frame evaluator is on, and every Python call costs about a microsecond.
        """
        local, sides, record = self._recorder.local, crossing.Sides(), self._record
        operation = self._recorder.intern("Tensor.to")

        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            on_host = sides[args[0] if args else kwargs.get("device", kwargs.get("other"))]
            if on_host is None or on_host is tensor.is_cpu or local.thread.copying or tensor.is_meta:
                return original(tensor, *args, **kwargs)
            return record(original, operation, "to", tensor, args, kwargs)

        return call

    def _install_method(self, patches: Patches, name: str, crosses: crossing.Predicate) -> None:
        local = self._recorder.local
        record = self._record
        operation = self._recorder.intern(f"Tensor.{name}")

        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
                if local.thread.copying or not crosses(tensor, args, kwargs):
                    return original(tensor, *args, **kwargs)
                return record(original, operation, name, tensor, args, kwargs)

            return call

        patches.wrap(torch.Tensor, name, make)

    def _record(
        self,
        original: Callable[..., Any],
        operation: int,
        name: str,
        tensor: torch.Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make the call, then write what it moved. The probe's work lies outside the measured call."""
        into = name in _INTO_SELF
        source: torch.Tensor = tensor if not into else args[name == "__setitem__"] if args else kwargs["src"]
        to_device = source.is_cpu
        probe, timer, recorder = self._probe, self.timer, self._recorder
        sample = None
        if probe is not None and to_device and source.nbytes >= MIN_BYTES:
            sample = probe.before(source)
        thread, clock = recorder.local.thread, recorder.clock
        thread.copying = True
        try:
            started = timer.start() if timer is not None else None
            start = clock()
            result = original(tensor, *args, **kwargs)
            end = clock()
        finally:
            thread.copying = False
        # The other side; a number that came out of item() has no address.
        other = tensor if into else result if isinstance(result, torch.Tensor) else None
        host, remote = (source, other) if to_device and other is not None else (other, source)
        non_blocking = bool(kwargs.get("non_blocking", next((a for a in args[1:] if isinstance(a, bool)), False)))
        # A blocking copy converts on the host, so that the link carries the device's dtype; a non-blocking one on the
        # device (torch's copy_kernel_cuda).
        carried = host if non_blocking and host is not None else remote
        size_bytes = (tensor if name == "copy_" else source).numel() * carried.element_size()
        if size_bytes == 0:
            return result
        copy_id = recorder.next_copy()
        fqn, parameter = thread.label or self._find_label(host, remote) or self._no_label
        kind, path, offset = UNKNOWN
        if host is not None:
            # Known addresses are looked up here rather than asked for: one call less for each copy.
            kind, path, offset = self._memory.found.get(host.data_ptr()) or self._memory.describe(host)
        top, device = thread.top, remote.device
        if to_device:
            recorder.h2d_bytes += size_bytes
        self._extend(
            self._pack(
                copy_id,
                NONE if top is None else top.span_id,
                thread.run_index,
                thread.thread_id,
                self._to_device if to_device else self._to_host,
                size_bytes,
                start,
                end,
                fqn,
                parameter,
                operation,
                recorder.intern(kind),
                NONE if host is None else host.data_ptr(),
                recorder.intern(path),
                offset,
                self._devices.get(device) or self._device(device),
                current_stream_id(device.index) if remote.is_cuda else NONE,
                non_blocking,
            )
        )
        if timer is not None:
            timer.stop(started, copy_id, size_bytes, (start, end), to_device=to_device)
        if sample is not None and probe is not None:
            probe.after(copy_id, sample)
        return result

    def _find_label(self, host: torch.Tensor | None, remote: torch.Tensor) -> tuple[int, int] | None:
        """The weight that a copy moves when no hook announced it: by its host address, or as part of a moving group."""
        if host is not None:
            label = self._registry.label_at(host)
            if label is not None:
                return label
        group = self._recorder.local.thread.group
        if group is None:
            return None
        address = remote.data_ptr()
        for weight in (*group.parameters, *group.buffers):
            if not weight.is_cpu and weight.data_ptr() == address:
                return self._registry.label_of(weight)
        return None

    def _device(self, device: torch.device) -> int:
        self._devices[device] = interned = self._recorder.intern(str(device))
        return interned


def current_stream_id(device_index: int) -> int:
    """What ``torch.cuda.current_stream(device).stream_id`` is, at a twentieth of its cost.

    That property makes a Stream object for each question; this private function is what it asks.
    """
    stream_id: int = torch._C._cuda_getCurrentStream(device_index)[0]
    return stream_id
