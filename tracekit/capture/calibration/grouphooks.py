"""Time what diffusers' group offloading takes the host beside its copies: its own hooks, around small modules.

A run under accelerate's hooks says nothing of these. With a stream, what an onload does before its first copy is time
in which the link is idle: for each weight it asks the driver whether the host copy is page-locked, allocates, and
issues the copy. The copies are small, so that no time is spent waiting for them.
"""

from __future__ import annotations

import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from tracekit.capture.calibration.cores import Cores
from tracekit.capture.calibration.devicememory import device_bytes, given_back
from tracekit.capture.calibration.hostwork import REPEATS, UNLIKE, Forward
from tracekit.capture.calibration.link import page_locked
from tracekit.capture.calibration.sample import Budget, Sample, fastest, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

_MODULES = 12
_FEW, _MANY = 1, 5
"""Weights of each module in two chains: the difference says what each weight adds."""
_WEIGHT_BYTES = 64
_SECONDS = 0.5


def group_hook_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of a group's onload, of what each weight adds to it, and of the hooks around it; CPU time.

    None on the emulated device, which has no streams, nor in a program that did not import diffusers.

    Raises:
        RuntimeError: the device has no memory left, or the driver refuses to lock pages.
    """
    if device.kind == "emulated" or "diffusers" not in sys.modules:
        return
    memory = touched_bytes(_MANY * _WEIGHT_BYTES)
    # Page-locked already, so that diffusers takes none from torch's host allocator, which would keep it.
    with given_back(device), page_locked(memory), torch.no_grad():
        yield from _samples(device, memory)


def _samples(device: DeviceChoice, memory: torch.Tensor) -> Iterator[Sample]:
    weights = memory.split(_WEIGHT_BYTES)
    few, many = (Chain(weights[:number]) for number in (_FEW, _MANY))
    given = device_bytes(device, _WEIGHT_BYTES)
    bare = few.hooks_ns(given)
    for chain in (few, many):
        chain.group(device, stream=True)
        chain(given)  # diffusers learns the order of calls
    budget, cores = Budget(_SECONDS), Cores()
    for _ in range(REPEATS):
        cores.move()
        less, more = few.hooks_ns(given), many.hooks_ns(given)
        yield Sample(Measure.GROUP_ONLOAD, 0, max(less.onload, 1))
        yield Sample(Measure.GROUP_WEIGHT, 0, max((more.onload - less.onload) // (_MANY - _FEW), 1))
        yield Sample(Measure.GROUP_CALL, 0, max(less.around - bare.around, 1))
        if not budget.left:
            return


class HooksTime(NamedTuple):
    """CPU time of a module's call beside its own forward, on average, ns: the onload in it, and all around that."""

    onload: int
    around: int


class Chain(nn.Module):
    """Modules that are called one after the other, each with weights in the same memory."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        super().__init__()
        forwards = itertools.islice(itertools.cycle(UNLIKE), _MODULES)
        self._each = [_Block(weights, forward) for forward in forwards]
        self.blocks = nn.ModuleList(self._each)  # where diffusers looks for blocks

    def group(self, device: DeviceChoice, *, stream: bool) -> None:
        """Have diffusers offload each module as a group of its own, and time the onloads."""
        from diffusers.hooks import apply_group_offloading

        apply_group_offloading(
            self,
            onload_device=torch.device(device.torch_device),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=stream,
        )
        onloads = [self._timed_onload(block) for block in self._each]
        # A module's call brings the next one's weights.
        for block, onload in zip(self._each, onloads[1:], strict=False):
            block.onload = onload

    def hooks_ns(self, given: torch.Tensor) -> HooksTime:
        """What hooks and calls take, of each module but the last: that one brings nothing."""

        def one_pass() -> list[tuple[int, int]]:
            self(given)
            return [(block.onload.took_ns, block.around_ns) for block in self._each[:-1]]

        return HooksTime(*fastest(one_pass))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Call them, and keep what each call takes beside the module's own forward and an onload in it."""
        for block in self._each:
            block.onload.took_ns = 0
            begin = time.thread_time_ns()
            given = block(given)
            block.around_ns = time.thread_time_ns() - begin - block.own.took_ns - block.onload.took_ns
        return given

    @staticmethod
    def _timed_onload(block: Any) -> _Timed:
        group = block._diffusers_hook.get_hook("group_offloading").group
        timed = _Timed(group.onload_)
        group.onload_ = timed
        return timed


class _Timed:
    """A call, and the CPU time of its last one, ns."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self.took_ns = call, 0

    def __call__(self) -> None:
        begin = time.thread_time_ns()
        self._call()
        self.took_ns = time.thread_time_ns() - begin


class _Block(nn.Module):
    """One that works on the host alone: no kernel is loaded for it that a run would be the first to load."""

    def __init__(self, weights: Sequence[torch.Tensor], forward: Forward) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)
        self.own = _Timed(functools.partial(forward, torch.ones(1, 64)))
        self.onload = _Timed(lambda: None)
        self.around_ns = 0

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        self.own()
        return given
