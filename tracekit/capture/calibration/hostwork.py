"""Time host code with offload hooks around it and without, and by what the hooks copy to the device.

A hook's own code, the driver's and what they touch take the CPU's caches over, so that a model's code among hooks takes
up to three times as long as without any, though they copy a few bytes. The driver stages a copy from pageable memory
with the CPU, and while the host waits for a copy of page-locked memory others use its caches: large copies slow hooks
and code down further. What a mode with other copies, or without hooks, would take of that time follows from this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from enum import Enum, auto
from functools import partial
from itertools import cycle, pairwise, repeat
from typing import NamedTuple

import torch

from tracekit.capture.calibration.cores import SPREAD, Cores
from tracekit.capture.calibration.devicememory import given_back
from tracekit.capture.calibration.link import fitting, page_locked
from tracekit.capture.calibration.modules import Code, Piece, Small, codes, fastest_piece, piece, pieces
from tracekit.capture.calibration.sample import MB, Budget, Sample, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import Measure

FEW = 4096
SIZES = (FEW, 1 * MB, 4 * MB, 16 * MB, 64 * MB)
REPEATS = 2 * SPREAD
"""Two rounds on each core."""
_PLACES = 4
"""What is copied from one place again and again stays in a large cache, and drives nothing else out."""
_ALIKE = 6
"""Modules of each code among which it is timed at its fastest: as in a model, each is an object of its own."""
_WEIGHTS = 2
"""Of each module, as linear layers have them."""
_FIRST = "weight_0"
"""The one that is as large as is said; the other one has few bytes."""
_SECONDS = 1.2


class _Hooks(Enum):
    """What accelerate's hooks do at a chain's modules."""

    OFFLOADING = auto()
    NONE = auto()
    IDLE = auto()  # the weights stay


class _Measures(NamedTuple):
    """What is measured of one kind of host memory: hooks, modules' own forwards, and the code between them."""

    hooks: Measure
    own: Measure
    between: Measure


_PAGEABLE = _Measures(Measure.HOOK_WORK, Measure.OWN_CODE, Measure.CODE_BETWEEN)
_PAGE_LOCKED = _Measures(Measure.WAITED_HOOK_WORK, Measure.WAITED_OWN_CODE, Measure.WAITED_CODE_BETWEEN)


def host_work_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of every size that fits on the device, in CPU time. Page-locked memory is CUDA's alone.

    Raises:
        RuntimeError: the device has no memory left, or the driver refuses to lock pages.
    """
    with ExitStack() as stack:
        stack.enter_context(given_back(device))
        stack.enter_context(torch.no_grad())
        sizes = fitting(device, SIZES)
        kinds = {_PAGEABLE: touched_bytes(_PLACES * sizes[-1])}
        if device.kind == "cuda":
            kinds[_PAGE_LOCKED] = touched_bytes(sizes[-1])
            stack.enter_context(page_locked(kinds[_PAGE_LOCKED]))
        work = stack.enter_context(closing(_Work(device, kinds[_PAGEABLE][:FEW])))
        yield from _samples(work, sizes, kinds)


def _samples(work: _Work, sizes: Sequence[int], kinds: Mapping[_Measures, torch.Tensor]) -> Iterator[Sample]:
    budget, cores = Budget(_SECONDS), Cores()
    places = {measures: cycle(range(0, len(memory), sizes[-1])) for measures, memory in kinds.items()}
    for _ in range(REPEATS):
        cores.move()
        among, alone, idle = (work.fastest(hooks) for hooks in _Hooks)
        yield Sample(Measure.OWN_CODE_AMONG_HOOKS, 0, among.own)
        yield Sample(Measure.CODE_BETWEEN_AMONG_HOOKS, 0, among.between)
        yield Sample(Measure.OWN_CODE_ALONE, 0, alone.own)
        yield Sample(Measure.CODE_BETWEEN_ALONE, 0, alone.between)
        yield Sample(Measure.OWN_CODE_IDLE_HOOKS, 0, idle.own)
        yield Sample(Measure.CODE_BETWEEN_IDLE_HOOKS, 0, idle.after + alone.around)
        yield Sample(Measure.IDLE_HOOK, 0, max(idle.around - alone.around, 1))
        for measures, memory in kinds.items():
            work.bringing(repeat(memory[:FEW]))  # until what larger copies left behind is gone
            for size in sizes:
                for each in work.bringing(memory[at : at + size] for at in places[measures]):
                    yield Sample(measures.hooks, size, each.hooks)
                    yield Sample(measures.own, size, each.own)
                    yield Sample(measures.between, size, each.between)
        if not budget.left:
            return


class _Work:
    """Chains of small modules under accelerate's own hooks.

    No stand-in for these will do: a hook loops over a module's tensors, and finds its own code in the caches at the
    second one. But they offload from the host to the host, so that accelerate clears no cache, which would be the
    program's; a copy to the device is made when a hook asks for a weight, as it would make it.
    """

    def __init__(self, device: DeviceChoice, few: torch.Tensor) -> None:
        self._device, self._few, self._first = device.torch_device, few, few
        self._codes, self._given = codes(device), torch.ones(1, 64)
        self._chains = {hooks: [self._module(code, hooks) for code in self._codes * _ALIKE] for hooks in _Hooks}
        pieces(self._chains[_Hooks.OFFLOADING], self._given)  # accelerate may import something at its first call

    def fastest(self, hooks: _Hooks) -> Piece:
        """A chain's modules at their fastest, with few bytes copied at each."""
        self._first = self._few
        return fastest_piece(lambda: pieces(self._chains[hooks], self._given))

    def bringing(self, memory: Iterator[torch.Tensor]) -> list[Piece]:
        """Modules of each code in turn, for each of which the next memory is copied.

        Each as long as it took this once. Another guest's turn on a shared core, milliseconds that a virtual machine's
        clocks count as work, makes few of such samples too long, and no median.
        """
        found = []
        for module, following in pairwise(self._chains[_Hooks.OFFLOADING][: len(self._codes) + 1]):
            self._first = next(memory)
            found.append(piece(module, following, self._given))
        return found

    def close(self) -> None:
        """Give the device's memory back."""
        self._codes.clear()
        for chain in self._chains.values():
            for module in chain:
                module.forget()

    def _module(self, code: Code, hooks: _Hooks) -> Small:
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module

        module = Small([torch.ones(8) for _ in range(_WEIGHTS)], code)
        if hooks is _Hooks.NONE:
            return module
        offload = hooks is _Hooks.OFFLOADING
        weights = _Brought(module, self._bring) if offload else None
        # "cpu" as text: accelerate takes torch.device("cpu") for a device whose cache is to be cleared.
        hook = AlignDevicesHook("cpu", offload=offload, weights_map=weights)
        add_hook_to_module(module, hook)
        if offload:  # an idle hook counts together with how it is called
            for name in ("pre_forward", "post_forward"):
                setattr(hook, name, partial(module.hooked, getattr(hook, name)))
        return module

    def _bring(self, name: str) -> None:
        (self._first if name == _FIRST else self._few).to(self._device)


class _Brought(dict[str, torch.Tensor]):
    """A module's weights by their names, each of which is brought before it is given."""

    def __init__(self, module: Small, bring: Callable[[str], None]) -> None:
        super().__init__((name, parameter.data) for name, parameter in module.named_parameters())
        self._module, self._bring = module, bring

    def __getitem__(self, name: str) -> torch.Tensor:
        self._module.set_aside(lambda: self._bring(name))
        return super().__getitem__(name)
