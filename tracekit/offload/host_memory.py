"""Move the host copy of the weights into ordinary or page-locked memory before a mode is applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from tracekit.offload.modes import AS_LOADED, PINNED
from tracekit.offload.setup import SetupSpans
from tracekit.offload.weights import tensors, tied_groups

_BLOCK_BYTES = 1 << 30
# Enough for every vector instruction and for the copy engine.
_ALIGN_BYTES = 256


def hold_host_copy(parts: Mapping[str, nn.Module], memory: str, setup: SetupSpans) -> None:
    """Hold the components' weights on the host in `memory`, a name of `modes.HOST_MEMORIES`.

    What is on the device already is left alone. Weights are replaced one after another, so that no more than one of
    them exists twice (of a pinned copy, one block of at most 1 GiB). A tied weight is copied once and stays tied.
    """
    if memory == AS_LOADED:
        return
    groups = tied_groups(tensor for part in parts.values() for tensor in tensors(part) if _on_host(tensor))
    hold = _PinnedBlocks(group[0] for group in groups).hold if memory == PINNED else torch.clone
    verb = "pin" if memory == PINNED else "clone"
    # A weight tied across components is replaced with the first component that has it.
    pending = {id(tensor): group for group in groups for tensor in group}
    for component, part in parts.items():
        with setup(f"{verb} host copy: {component}"), torch.no_grad():
            for tensor in tensors(part):
                _replace(pending.get(id(tensor), []), hold, pending)


def _on_host(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() > 0


def _replace(
    group: list[torch.Tensor], hold: Callable[[torch.Tensor], torch.Tensor], pending: dict[int, list[torch.Tensor]]
) -> None:
    if not group:
        return
    held = hold(group[0].data)
    for tensor in group:
        tensor.data = held
        del pending[id(tensor)]


class _PinnedBlocks:
    """Page-locked memory for a known set of tensors, cut from large blocks.

    torch rounds every page-locked allocation up to a power of two: tensor by tensor, Flux's 24 GB would lock 37 GB.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        self._left = sum(_aligned(weight.nbytes) for weight in weights)
        self._block = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def hold(self, weight: torch.Tensor) -> torch.Tensor:
        """A page-locked copy of `weight`, with its shape and (where it is dense) its strides."""
        size = _aligned(weight.nbytes)
        if self._used + size > self._block.numel():
            block_bytes = max(size, min(_BLOCK_BYTES, 1 << (self._left.bit_length() - 1)))
            self._block = torch.empty(block_bytes, dtype=torch.uint8, pin_memory=True)
            self._used = 0
        place = self._block[self._used : self._used + weight.nbytes]
        self._used += size
        self._left -= size
        stride = torch.empty_like(weight, device="meta").stride()
        return place.view(weight.dtype).as_strided(weight.shape, stride).copy_(weight)


def _aligned(size: int) -> int:
    return -(-size // _ALIGN_BYTES) * _ALIGN_BYTES
