"""Time a piece of host work by itself and right after a copy from pageable memory, which takes the CPU's caches over.

The driver stages such a copy with the CPU, so that the offload hooks and the model's code run on cold caches after it,
two to four times slower. What a mode without such copies would take of that time follows from this.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import torch
from torch import nn

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
    with given_back(device), torch.no_grad(), closing(_Work(device)) as work:
        yield from _samples(device, work)


def _samples(device: DeviceChoice, work: _Work) -> Iterator[Sample]:
    work.timed()  # accelerate may import something at its first call
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
    """What hooks and forwards do, in small: an offloaded module with accelerate's own hook, which launches a copy.

    No stand-in for the hook will do: it loops over a module's tensors, and finds its own code in the caches at the
    second one; what does each thing once slows down half as much again. The module is offloaded from the host to the
    host, so that accelerate clears no cache, and the copy is within the device: no kernel is loaded for it that a run
    would be the first to load.
    """

    def __init__(self, device: DeviceChoice) -> None:
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module

        self._module = _Small(device_bytes(device, _LAUNCH_BYTES))
        weights = {name: parameter.data for name, parameter in self._module.named_parameters()}
        # "cpu" as text: accelerate takes torch.device("cpu") for a device whose cache is to be cleared.
        add_hook_to_module(self._module, AlignDevicesHook("cpu", offload=True, weights_map=weights))
        self._input = torch.ones(1)
        self._device = torch.get_device_module(device.torch_device)

    def timed(self) -> int:
        """Call it, with nothing queued before it; how long it took, ns."""
        self._device.synchronize()
        start = time.monotonic_ns()
        self._module(self._input)
        return time.monotonic_ns() - start

    def close(self) -> None:
        """Give the device's memory back: a module with a hook holds itself."""
        self._module.on_device = None


class _Small(nn.Module):
    def __init__(self, on_device: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.ones(8), requires_grad=False) for _ in range(2))
        self.on_device: torch.Tensor | None = on_device

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        if self.on_device is not None:
            torch.empty_like(self.on_device).copy_(self.on_device)
        return given
