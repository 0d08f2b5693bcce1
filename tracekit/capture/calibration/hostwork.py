"""Time a piece of host work by itself and right after a copy from pageable memory, which takes the CPU's caches over.

The driver stages such a copy with the CPU, so that the offload hooks and the model's code run on cold caches after it,
two to four times slower. What a mode without such copies would take of that time follows from this.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.func import functional_call

from tracekit.capture.calibration.cores import SPREAD, Cores
from tracekit.capture.calibration.devicememory import device_bytes, given_back
from tracekit.capture.calibration.link import fitting
from tracekit.capture.calibration.sample import MB, Budget, Sample, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

SIZES = (0, 1 * MB, 4 * MB, 16 * MB, 64 * MB)
REPEATS = 2 * SPREAD
"""Two rounds on each core."""
_WARM_UP = 20
_LAUNCH_BYTES = 4096
_SECONDS = 0.5


def host_work_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of every size that fits on the device; 0 is nothing before it.

    Raises:
        RuntimeError: the device has no memory left.
    """
    with given_back(device), torch.no_grad():
        yield from _samples(device)


def _samples(device: DeviceChoice) -> Iterator[Sample]:
    work = _Work(device)
    sizes = fitting(device, SIZES)
    host, on_device = touched_bytes(sizes[-1]), device_bytes(device, sizes[-1])
    budget, cores = Budget(_SECONDS), Cores()
    for _ in range(REPEATS):
        cores.move()
        for _ in range(_WARM_UP):
            work.timed()
        for size in sizes:
            if size:
                on_device[:size].copy_(host[:size])
            yield Sample(Measure.HOST_WORK, size, work.timed())
        if not budget.left:
            return


class _Work:
    """What hooks and forwards do: a module walked, parameters put in, a signature bound, memory got, a copy launched.

    Each of them once: repeated, it would find in the caches what it has just brought there, as hooks never do. The copy
    is within the device: no kernel is loaded by it that a run would load for the first time.
    """

    def __init__(self, device: DeviceChoice) -> None:
        self._tree = nn.Sequential(_Small())
        self._input = torch.ones(1)
        self._on_device = device_bytes(device, _LAUNCH_BYTES)
        self._module = torch.get_device_module(device.torch_device)

    def timed(self) -> int:
        """Do it once, with nothing queued before it; how long it took, ns."""
        tree, given, on_device = self._tree, self._input, self._on_device
        self._module.synchronize()
        start = time.monotonic_ns()
        functional_call(tree, dict(tree.named_parameters()), (given,))
        inspect.signature(tree.forward).bind(given)
        tree.state_dict()
        tree.requires_grad_(False)
        torch.empty_like(on_device).copy_(on_device)
        return time.monotonic_ns() - start


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.ones(8), requires_grad=False) for _ in range(2))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given
