"""Time host work by itself and right after a copy from pageable memory, which takes the CPU's caches over.

The driver stages such a copy with the CPU, so that the offload hooks and the model's code run on cold caches after it,
two to four times slower; modules that follow, before which nothing is copied, find the hooks' code again, but not their
own. What a mode without such copies would take of that time follows from this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle, pairwise

import torch
from torch import nn
from torch.nn import functional

from tracekit.capture.calibration.cores import SPREAD, Cores
from tracekit.capture.calibration.devicememory import device_bytes, given_back
from tracekit.capture.calibration.link import fitting
from tracekit.capture.calibration.sample import MB, Budget, Sample, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

SIZES = (0, 1 * MB, 4 * MB, 16 * MB, 64 * MB)
REPEATS = 2 * SPREAD
"""Two rounds on each core."""
_PLACES = 4
"""What is copied from one place again and again stays in a large cache, and drives nothing else out."""
_WARM_UP = 8
_LAUNCH_BYTES = 4096
_Forward = Callable[[torch.Tensor], torch.Tensor]
_UNLIKE: tuple[_Forward, ...] = (
    lambda x: functional.layer_norm(x.view(4, 16), (16,)).transpose(0, 1).contiguous().view(1, 64),
    lambda x: functional.softmax(torch.cat(x.chunk(2, dim=-1), 0), -1).view(1, 64),
    lambda x: x.cumsum(-1).roll(3, -1).flip(-1),
)
"""Forwards on the host that share little of torch's code."""
_SECONDS = 0.5


def host_work_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of every size that fits on the device; 0 is nothing before it.

    Raises:
        RuntimeError: the device has no memory left.
    """
    with given_back(device), torch.no_grad(), closing(_Work(device)) as work:
        yield from _samples(device, work)


def _samples(device: DeviceChoice, work: _Work) -> Iterator[Sample]:
    work.timed()  # accelerate may import something at its first call
    sizes = fitting(device, SIZES)
    host, on_device = touched_bytes(_PLACES * sizes[-1]), device_bytes(device, sizes[-1])
    place = cycle(range(0, len(host), sizes[-1]))
    budget, cores = Budget(_SECONDS), Cores()
    for _ in range(REPEATS):
        cores.move()
        for _ in range(_WARM_UP):
            work.timed()
        for size in sizes:
            if size:
                begin = next(place)
                on_device[:size].copy_(host[begin : begin + size])
            first, following = work.timed()
            yield Sample(Measure.HOST_WORK, size, first)
            yield Sample(Measure.HOST_WORK_NEXT, size, following)
        if not budget.left:
            return


class _Work:
    """What hooks and forwards do, in small: offloaded modules with accelerate's own hook, the first launching a copy.

    No stand-in for the hook will do: it loops over a module's tensors, and finds its own code in the caches at the
    second one; what does each thing once slows down half as much again. The modules are offloaded from the host to the
    host, so that accelerate clears no cache, and the copy is within the device: no kernel is loaded for it that a run
    would be the first to load.
    """

    def __init__(self, device: DeviceChoice) -> None:
        self._on_device: torch.Tensor | None = device_bytes(device, _LAUNCH_BYTES)
        self._first = _offloaded(self._launch)
        self._next = [_offloaded(forward) for forward in _UNLIKE]
        self._input = torch.ones(1, 64)
        self._device = torch.get_device_module(device.torch_device)

    def timed(self) -> tuple[int, int]:
        """Call them, with nothing queued before; the CPU time of the first, and on average of those after it, ns.

        Not the time that went by: after the milliseconds of a copy the kernel gives other threads their turn, and such
        a turn is longer than the work.
        """
        self._device.synchronize()
        bounds = [time.thread_time_ns()]
        for module in (self._first, *self._next):
            module(self._input)
            bounds.append(time.thread_time_ns())
        first, *rest = (after - before for before, after in pairwise(bounds))
        return first, sum(rest) // len(rest)

    def close(self) -> None:
        """Give the device's memory back: a module with a hook holds itself, and what it calls."""
        self._on_device = None

    def _launch(self, given: torch.Tensor) -> torch.Tensor:
        if self._on_device is not None:
            torch.empty_like(self._on_device).copy_(self._on_device)
        return given


class _Small(nn.Module):
    def __init__(self, forward: _Forward) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.ones(8), requires_grad=False) for _ in range(2))
        self._forward = forward

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self._forward(given)


def _offloaded(forward: _Forward) -> nn.Module:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    module = _Small(forward)
    weights = {name: parameter.data for name, parameter in module.named_parameters()}
    # "cpu" as text: accelerate takes torch.device("cpu") for a device whose cache is to be cleared.
    add_hook_to_module(module, AlignDevicesHook("cpu", offload=True, weights_map=weights))
    return module
