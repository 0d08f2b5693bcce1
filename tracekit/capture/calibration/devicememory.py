"""Device memory to measure with, none of which stays when the measuring is over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from tracekit.device.choice import DeviceChoice


@contextmanager
def given_back(device: DeviceChoice) -> Iterator[None]:
    """Give what is allocated inside the block back to the device, the blocks' tensors being gone by then.

    On CUDA it comes from a pool of its own, since clearing the allocator's cache would take the program's cached
    blocks, too. The peaks of the allocator's statistics are reset where that forgets nothing: a program that has a peak
    of its own keeps it.
    """
    module, index = _module(device), torch.device(device.torch_device)
    peaks = module.max_memory_allocated(index), module.max_memory_reserved(index)
    nothing_to_forget = peaks == (module.memory_allocated(index), module.memory_reserved(index))
    with ExitStack() as stack:
        if device.kind == "cuda":
            stack.enter_context(torch.cuda.device(index))
            stack.enter_context(torch.cuda.use_mem_pool(torch.cuda.MemPool(), index))
        yield
    module.synchronize(index)
    if device.kind == "emulated":
        module.empty_cache()
    if nothing_to_forget:
        module.reset_peak_memory_stats(index)


def device_bytes(device: DeviceChoice, size_bytes: int) -> torch.Tensor:
    """Device memory, without a kernel that would be loaded for it."""
    return torch.empty(size_bytes, dtype=torch.uint8, device=device.torch_device)


def free_bytes(device: DeviceChoice) -> int:
    """What this process may still allocate; CUDA does not count its cap, the emulated device does."""
    module, index = _module(device), torch.device(device.torch_device)
    free, total = module.mem_get_info(index)
    if device.kind == "emulated":
        return int(free)
    cap = torch.cuda.get_per_process_memory_fraction(index) * total
    return int(min(free, cap - torch.cuda.memory_reserved(index)))


def _module(device: DeviceChoice) -> Any:
    return torch.get_device_module(device.torch_device)
