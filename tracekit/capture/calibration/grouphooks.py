"""Time what diffusers' group offloading takes the host beside its copies: its own hooks, around small modules.

A run under accelerate's hooks says nothing of these. With a stream, what an onload does before its first copy is time
in which the link is idle: for each weight it asks the driver whether the host copy is page-locked, allocates, and
issues the copy. That is timed with small copies, so that no time is spent waiting for them. All around it, and the
model's code, is timed with large ones, too: while the host waits, others use the CPU's caches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from tracekit.capture.calibration.cores import Cores
from tracekit.capture.calibration.devicememory import device_bytes, given_back
from tracekit.capture.calibration.hostwork import REPEATS
from tracekit.capture.calibration.link import page_locked
from tracekit.capture.calibration.modules import Piece, Small, codes, fastest_piece, pieces
from tracekit.capture.calibration.sample import MB, Budget, Sample, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

_FEW, _MANY = 1, 5
"""Weights of each module in two chains: the difference says what each weight adds."""
_WEIGHT_BYTES = 64
_LARGE_BYTES = 16 * MB
_SECONDS = 0.5


def group_hook_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of a group's onload, of what each weight adds to it, of the hooks around it and of code among them.

    CPU time. None on the emulated device, which has no streams, nor in a program that did not import diffusers.

    Raises:
        RuntimeError: the device has no memory left, the driver refuses to lock pages, or diffusers works otherwise.
    """
    if device.kind == "emulated" or "diffusers" not in sys.modules:
        return
    memory = touched_bytes(_LARGE_BYTES)
    # Page-locked already, so that diffusers takes none from torch's host allocator, which would keep it.
    with given_back(device), page_locked(memory), torch.no_grad():
        yield from _samples(device, memory)


def _samples(device: DeviceChoice, memory: torch.Tensor) -> Iterator[Sample]:
    small, given = memory[: _MANY * _WEIGHT_BYTES].split(_WEIGHT_BYTES), device_bytes(device, _WEIGHT_BYTES)
    with ExitStack() as stack:
        bare, few, many, large = (
            stack.enter_context(closing(Chain(device, weights)))
            for weights in (small[:_FEW], small[:_FEW], small[:_MANY], [memory])
        )
        for chain in (few, many, large):
            chain.group(device, stream=True)
            chain(given)  # diffusers learns the order of calls
        yield from _rounds(bare, few, many, large, given)


def _rounds(bare: Chain, few: Chain, many: Chain, large: Chain, given: torch.Tensor) -> Iterator[Sample]:
    budget, cores = Budget(_SECONDS), Cores()
    for _ in range(REPEATS):
        cores.move()
        alone, less, more, most = (chain.fastest(given) for chain in (bare, few, many, large))
        if not less.aside:
            raise RuntimeError("diffusers brought no group's weights ahead of its call")
        yield Sample(Measure.GROUP_ONLOAD, 0, less.aside)
        yield Sample(Measure.GROUP_WEIGHT, 0, max((more.aside - less.aside) // (_MANY - _FEW), 1))
        for size, grouped in ((_WEIGHT_BYTES, less), (_LARGE_BYTES, most)):
            yield Sample(Measure.GROUP_CALL, size, max(grouped.around - alone.around, 1))
            yield Sample(Measure.GROUP_OWN_CODE, size, grouped.own)
            yield Sample(Measure.GROUP_CODE_BETWEEN, size, grouped.after + alone.around)
        yield Sample(Measure.UNGROUPED_OWN_CODE, 0, alone.own)
        yield Sample(Measure.UNGROUPED_CODE_BETWEEN, 0, alone.between)
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

    def fastest(self, given: torch.Tensor) -> Piece:
        """A module's call and the code behind it at their fastest, an onload in it set aside.

        Of all but the last: that one brings nothing.
        """

        def one_pass() -> list[Piece]:
            self(given)
            return self._pieces[:-1]

        return fastest_piece(one_pass)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Call them, each with the next one's code behind it."""
        self._pieces = pieces(self._each, given)
        return given


def _group_of(block: Any) -> Any:
    return block._diffusers_hook.get_hook("group_offloading").group
