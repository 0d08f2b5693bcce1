"""Time host work by itself and right after a copy to the device, which takes the CPU's caches over.

The driver stages a copy from pageable memory with the CPU, so that the offload hooks and the model's code run on cold
caches after it, two to four times slower; modules that follow, before which nothing is copied, find the hooks' code
again, but not their own. While the host waits for a copy of page-locked memory others use the caches: on a shared core
the same code takes up to a half longer then. Hooks take them over, too: a model's code among them takes up to twice as
long as without any. What a mode with other copies, or without hooks, would take of that time follows from this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import Enum, auto
from itertools import cycle, pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional

from tracekit.capture.calibration.cores import SPREAD, Cores
from tracekit.capture.calibration.devicememory import device_bytes, given_back
from tracekit.capture.calibration.link import fitting, page_locked
from tracekit.capture.calibration.sample import MB, Budget, Sample, fastest, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

SIZES = (0, 1 * MB, 4 * MB, 16 * MB, 64 * MB)
REPEATS = 2 * SPREAD
"""Two rounds on each core."""
_TURNS = 2
"""All sizes so often in a round."""
_PLACES = 4
"""What is copied from one place again and again stays in a large cache, and drives nothing else out."""
_WARM_UP = 8
_ALIKE = 6
"""Modules of each forward among which code is timed: as in a model, each is an object of its own."""
_LAUNCH_BYTES = 4096
_Module = TypeVar("_Module", bound=nn.Module)
Forward = Callable[[torch.Tensor], torch.Tensor]
UNLIKE: tuple[Forward, ...] = (
    lambda x: functional.layer_norm(x.view(4, 16), (16,)).transpose(0, 1).contiguous().view(1, 64),
    lambda x: functional.softmax(torch.cat(x.chunk(2, dim=-1), 0), -1).view(1, 64),
    lambda x: x.cumsum(-1).roll(3, -1).flip(-1),
)
"""Forwards on the host that share little of torch's code."""
_SECONDS = 0.8


class _Hooks(Enum):
    """What accelerate's hooks do at a chain's modules."""

    OFFLOADING = auto()
    NONE = auto()
    IDLE = auto()  # the weights stay


def host_work_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of every size that fits on the device; 0 is nothing before it. Page-locked memory is CUDA's alone.

    Raises:
        RuntimeError: the device has no memory left, or the driver refuses to lock pages.
    """
    with given_back(device), torch.no_grad(), closing(_Work(device)) as work:
        work.timed()  # accelerate may import something at its first call
        sizes = fitting(device, SIZES)
        if device.kind == "emulated":
            yield from _samples(device, work, sizes)
        else:
            locked = touched_bytes(sizes[-1])
            with page_locked(locked):
                yield from _samples(device, work, sizes, locked)


def _samples(
    device: DeviceChoice, work: _Work, sizes: tuple[int, ...], locked: torch.Tensor | None = None
) -> Iterator[Sample]:
    on_device, host = device_bytes(device, sizes[-1]), touched_bytes(_PLACES * sizes[-1])
    place = cycle(range(0, len(host), sizes[-1]))
    budget, cores = Budget(_SECONDS), Cores()
    for _ in range(REPEATS):
        cores.move()
        (among, _), (alone, calling), (_, idle) = (work.code(hooks) for hooks in _Hooks)
        yield Sample(Measure.CODE_AMONG_HOOKS, 0, among)
        yield Sample(Measure.CODE_ALONE, 0, alone)
        yield Sample(Measure.IDLE_HOOK, 0, max(idle - calling, 1))
        for _ in range(_WARM_UP):
            work.timed()
        for size in sizes * _TURNS:
            if size:
                begin = next(place)
                on_device[:size].copy_(host[begin : begin + size])
            yield from _sampled(work, Measure.HOST_WORK, Measure.HOST_WORK_NEXT, size)
            if size and locked is not None:
                on_device[:size].copy_(locked[:size], non_blocking=True)
                yield from _sampled(work, Measure.WAITED_WORK, Measure.WAITED_WORK_NEXT, size)
        if not budget.left:
            return


def _sampled(work: _Work, measure: Measure, measure_next: Measure, size: int) -> Iterator[Sample]:
    first, *following = work.timed()
    yield Sample(measure, size, first)
    for each in following:
        yield Sample(measure_next, size, each)


class _Work:
    """What hooks and forwards do, in small: offloaded modules with accelerate's own hook, the first launching a copy.

    No stand-in for the hook will do: it loops over a module's tensors, and finds its own code in the caches at the
    second one; what does each thing once slows down half as much again. The modules are offloaded from the host to the
    host, so that accelerate clears no cache, and the copy is within the device: no kernel is loaded for it that a run
    would be the first to load.
    """

    def __init__(self, device: DeviceChoice) -> None:
        self._on_device: torch.Tensor | None = device_bytes(device, _LAUNCH_BYTES)
        self._first = _with(_Small(self._launch), _Hooks.OFFLOADING)
        self._next = [_with(_Small(forward), _Hooks.OFFLOADING) for forward in UNLIKE]
        forwards = (self._launch, *UNLIKE) * _ALIKE
        self._chains = {hooks: [_with(_Clocked(forward), hooks) for forward in forwards] for hooks in _Hooks}
        self._input = torch.ones(1, 64)
        self._device = torch.get_device_module(device.torch_device)

    def timed(self) -> list[int]:
        """Call them once the device is done; the CPU time of each, the one after a copy first, ns.

        Not the time that went by: after the milliseconds of a copy the kernel gives other threads their turn, and such
        a turn is longer than the work.
        """
        self._device.synchronize()
        bounds = [time.thread_time_ns()]
        for module in (self._first, *self._next):
            module(self._input)
            bounds.append(time.thread_time_ns())
        return [after - before for before, after in pairwise(bounds)]

    def code(self, hooks: _Hooks) -> tuple[int, int]:
        """CPU time of modules' own forwards, and of code between them, and of the calls apart from them.

        Each on average, ns.
        """
        chain = self._chains[hooks]
        pairs = list(zip(chain, chain[1:] + chain[:1], strict=True))
        self._device.synchronize()
        code, calling = fastest(lambda: [self._piece(*pair) for pair in pairs])
        return code // 2, calling

    def _piece(self, module: _Clocked, following: _Clocked) -> tuple[int, int]:
        """A module's own forward together with as much code behind it, and the call apart from that."""
        begin = time.thread_time_ns()
        module(self._input)
        called = time.thread_time_ns()
        following.code(self._input)
        return module.took_ns + time.thread_time_ns() - called, called - begin - module.took_ns

    def close(self) -> None:
        """Give the device's memory back: a module with a hook holds itself, and what it calls."""
        self._on_device = None

    def _launch(self, given: torch.Tensor) -> torch.Tensor:
        if self._on_device is not None:
            torch.empty_like(self._on_device).copy_(self._on_device)
        return given


class _Small(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.ones(8), requires_grad=False) for _ in range(2))
        self.code = forward

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.code(given)


class _Clocked(_Small):
    """One that keeps the CPU time of its last forward, hooks apart, ns."""

    took_ns = 0

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        begin = time.thread_time_ns()
        result = self.code(given)
        self.took_ns = time.thread_time_ns() - begin
        return result


def _with(module: _Module, hooks: _Hooks) -> _Module:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    if hooks is not _Hooks.NONE:
        offload = hooks is _Hooks.OFFLOADING
        weights = {name: parameter.data for name, parameter in module.named_parameters()}
        # "cpu" as text: accelerate takes torch.device("cpu") for a device whose cache is to be cleared.
        hook = AlignDevicesHook("cpu", offload=offload, weights_map=weights if offload else None)
        add_hook_to_module(module, hook)
    return module
