"""Record every copy between host and device that goes through a method of Tensor.

Tensor's methods are patched rather than a dispatch mode entered: a mode costs half of a small model's time. What
Tensor's methods do not see (``torch.tensor(..., device=...)``, copies inside C++ operators) is in the device's own
record. ``torch.tensor`` and its kin must not be patched: ``torch.device("meta")`` as a context, which loads models,
knows them by identity and remembers what it saw.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch

from tracekit.capture import crossing
from tracekit.capture.hooks import Crossing
from tracekit.capture.hostmemory import HostMemoryMap, HostSource
from tracekit.capture.hostprobe import MIN_BYTES, HostProbe
from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import COPIES, NONE, Direction, HostMemory

_INTO_SELF = ("copy_", "__setitem__")
_TO_HOST = ("cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__complex__", "__index__")
_METHODS: dict[str, Crossing] = {
    "to": "to",
    "cuda": "from_host",
    "copy_": "copy_",
    "__setitem__": "setitem",
    **dict.fromkeys(_TO_HOST, "to_host"),
}
_PAGEABLE = frozenset({HostMemory.MMAP, HostMemory.ANONYMOUS})

Place = tuple[HostSource, int, int, int, bool]
"""What a copy's host side is; as interned ids its memory and its file, the offset there; whether it may be paged."""


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

    The compiled hooks record ``Tensor.to`` themselves, from the attributes without an underscore.
    """

    def __init__(
        self, recorder: Recorder, registry: ModuleRegistry, memory: HostMemoryMap, probe: HostProbe | None
    ) -> None:
        self._recorder = recorder
        self._registry = registry
        self._memory = memory
        self.probe = probe
        self._timer: CopyTimer | None = None
        self._pack, self._extend = recorder.sink.raw(COPIES)
        self._to_device = recorder.intern(Direction.H2D.value)
        self._to_host = recorder.intern(Direction.D2H.value)
        self._no_label = (recorder.empty, recorder.empty)
        self.tensor_class = torch.Tensor
        # Gives what torch.cuda.current_stream(device).stream_id is as the first of three numbers, at a twentieth of its
        # cost: that property makes a Stream object for each question; this private function is what it asks.
        self.stream: Any = getattr(torch._C, "_cuda_getCurrentStream", None)
        self.sides = crossing.Sides()
        self.holders = crossing.Holders()
        self.found = memory.found
        self.places: dict[int, Place] = {}
        self.devices: dict[torch.device, tuple[int, int]] = {}
        self._seen: Any = recorder.hooks.copies(
            self, recorder.sink.buffer(COPIES), self._to_device, self._to_host, recorder.empty, MIN_BYTES
        )

    @property
    def timer(self) -> CopyTimer | None:
        """When set, told of each copy."""
        return self._timer

    @timer.setter
    def timer(self, timer: CopyTimer | None) -> None:
        """Set it: every copy is recorded in Python then."""
        self._timer = timer
        self._seen.in_python = timer is not None

    def install(self, patches: Patches) -> None:
        """Patch Tensor's copying methods."""
        hooks, intern = self._recorder.hooks, self._recorder.intern
        for name, test in _METHODS.items():
            operation = intern(f"Tensor.{name}")

            def make(
                original: Callable[..., Any], name: str = name, test: Crossing = test, operation: int = operation
            ) -> Callable[..., Any]:
                record = functools.partial(self._record, original, operation, name)
                return hooks.crossing(original, test, operation, record, self._seen)

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
        probe, timer, recorder = self.probe, self._timer, self._recorder
        sample = place = None
        if to_device:
            place = self.place(source)
            if probe is not None and place[4] and source.nbytes >= MIN_BYTES:
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
        copy_id = recorder.hooks.next_copy()
        fqn, parameter = thread.label or self.find_label(host, remote) or self._no_label
        _, memory, path, offset, _ = place or self.place(host)
        device, device_index = self.devices.get(remote.device) or self.device(remote.device)
        if to_device:
            recorder.hooks.h2d_bytes += size_bytes
        self._extend(
            self._pack(
                copy_id,
                thread.span_id,
                thread.run_index,
                thread.thread_id,
                self._to_device if to_device else self._to_host,
                size_bytes,
                start,
                end,
                fqn,
                parameter,
                operation,
                memory,
                NONE if host is None else host.data_ptr(),
                path,
                offset,
                device,
                NONE if device_index == NONE else self.stream(device_index)[0],
                non_blocking,
            )
        )
        if timer is not None:
            timer.stop(started, copy_id, size_bytes, (start, end), to_device=to_device)
        if sample is not None and probe is not None:
            probe.after(copy_id, sample)
        return result

    def place(self, host: torch.Tensor | None) -> Place:
        """What a copy's host side is; worked out once for each answer of the memory map."""
        address = NONE if host is None else host.data_ptr()
        source = self.found.get(address) or self._memory.describe(host)
        known = self.places.get(address)
        if known is None or known[0] is not source:
            intern = self._recorder.intern
            known = (source, intern(source.kind.value), intern(source.path), source.offset, source.kind in _PAGEABLE)
            self.places[address] = known
        return known

    def find_label(self, host: torch.Tensor | None, remote: torch.Tensor) -> tuple[int, int] | None:
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

    def device(self, device: torch.device) -> tuple[int, int]:
        """A device's interned name, and its index if it has CUDA streams, else `NONE`."""
        index = device.index if device.type == "cuda" else NONE
        self.devices[device] = known = (self._recorder.intern(str(device)), index)
        return known
