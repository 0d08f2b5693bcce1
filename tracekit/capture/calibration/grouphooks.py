"""Time what diffusers' group offloading takes the host beside its copies: its own hooks, around small modules.

A run under accelerate's hooks says nothing of these. With a stream, what an onload does before its first copy is time
in which the link is idle: for each weight it asks the driver whether the host copy is page-locked, allocates, and
issues the copy. That is timed with small copies, so that no time is spent waiting for them. All around it, and the
model's code, is timed with large ones, too: while the host waits, others use the CPU's caches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from tracekit.capture.calibration.cores import Cores
from tracekit.capture.calibration.devicememory import device_bytes, given_back
from tracekit.capture.calibration.hostwork import REPEATS
from tracekit.capture.calibration.link import fitting, page_locked
from tracekit.capture.calibration.modules import Piece, Small, codes, pieces
from tracekit.capture.calibration.sample import MB, Budget, Sample, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

_FEW_BYTES = 64
_SIZES = (_FEW_BYTES, 16 * MB, 64 * MB)
"""Of each module's one weight, a chain for each."""
_MANY = 5
"""Weights of few bytes in one more chain: the difference says what each weight adds."""
_SECONDS = 0.8


def group_hook_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of a group's onload, of what each weight adds to it, of the hooks around it and of code among them.

    CPU time. None on the emulated device, which has no streams, nor in a program that did not import diffusers.

    Raises:
        RuntimeError: the device has no memory left, the driver refuses to lock pages, or diffusers works otherwise.
    """
    if device.kind == "emulated" or "diffusers" not in sys.modules:
        return
    sizes = fitting(device, _SIZES)
    memory = touched_bytes(sizes[-1])
    # Page-locked already, so that diffusers takes none from torch's host allocator, which would keep it.
    with given_back(device), page_locked(memory), torch.no_grad():
        yield from _samples(device, memory, sizes)


def _samples(device: DeviceChoice, memory: torch.Tensor, sizes: Sequence[int]) -> Iterator[Sample]:
    given = device_bytes(device, _FEW_BYTES)
    with ExitStack() as stack:

        def chain(weights: Sequence[torch.Tensor]) -> Chain:
            return stack.enter_context(closing(Chain(device, weights)))

        alone, many = chain([memory[:_FEW_BYTES]]), chain(memory[: _MANY * _FEW_BYTES].split(_FEW_BYTES))
        grouped = {size: chain([memory[:size]]) for size in sizes}
        for each in (many, *grouped.values()):
            each.group(device, stream=True)
            each(given)  # diffusers learns the order of calls
        yield from _rounds(alone, many, grouped, given)


def _rounds(alone: Chain, many: Chain, grouped: Mapping[int, Chain], given: torch.Tensor) -> Iterator[Sample]:
    budget, cores = Budget(_SECONDS), Cores()
    for _ in range(REPEATS):
        cores.move()
        bare, more = alone.each(given), many.each(given)
        by_size = {size: chain.each(given) for size, chain in grouped.items()}
        if not all(piece.aside for piece in by_size[_FEW_BYTES]):
            raise RuntimeError("diffusers brought a group's weights at another time than ahead of its call")
        for place, without in enumerate(bare):
            less = by_size[_FEW_BYTES][place].aside
            yield Sample(Measure.GROUP_ONLOAD, 0, less)
            yield Sample(Measure.GROUP_WEIGHT, 0, max((more[place].aside - less) // (_MANY - 1), 1))
            yield Sample(Measure.UNGROUPED_OWN_CODE, 0, without.own)
            yield Sample(Measure.UNGROUPED_CODE_BETWEEN, 0, without.between)
            for size, pieces_of in by_size.items():
                piece = pieces_of[place]
                yield Sample(Measure.GROUP_CALL, size, max(piece.around - without.around, 1))
                yield Sample(Measure.GROUP_OWN_CODE, size, piece.own)
                yield Sample(Measure.GROUP_CODE_BETWEEN, size, piece.after + without.around)
        if not budget.left:
            return


class Chain(nn.Module):
    """Modules that are called one after the other, each with weights in the same memory."""

    def __init__(self, device: DeviceChoice, weights: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._each = [Small(weights, code) for code in codes(device)]
        self.blocks = nn.ModuleList(self._each)  # where diffusers looks for blocks
        self.beside = nn.Identity()  # in a model of blocks alone it would bring none ahead
        self._pieces: list[Piece] = []

    def group(self, device: DeviceChoice, *, stream: bool) -> None:
        """Have diffusers offload each module as a group of its own, and set the onloads aside."""
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(
            self,
            onload_device=torch.device(device.torch_device),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=stream,
        )
        # With a stream a module's call brings the next one's weights.
        for brings, brought in pairwise(self._each) if stream else zip(self._each, self._each, strict=True):
            group = _group_of(brought)
            group.onload_ = partial(brings.set_aside, group.onload_)

    def close(self) -> None:
        """Give the device's memory back."""
        for block in self._each:
            block.forget()

    def each(self, given: torch.Tensor) -> list[Piece]:
        """Each module's call and the code behind it, an onload in it set aside, in a second pass.

        Of all but the last: that one brings nothing. Each as long as it took this once: at their fastest, nobody else
        would have used the caches while the host waited.
        """
        for _ in range(2):
            self(given)
        return self._pieces[:-1]

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Call them, each with the next one's code behind it."""
        self._pieces = pieces(self._each, given)
        return given


def _group_of(block: Any) -> Any:
    return block._diffusers_hook.get_hook("group_offloading").group
