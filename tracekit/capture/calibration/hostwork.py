"""Time host code with offload hooks around it and without, and by what the hooks copy to the device.

A hook's own code, the driver's and what they touch take the CPU's caches over, so that a model's code among hooks takes
up to three times as long as without any, though they copy a few bytes. The driver stages a copy from pageable memory
with the CPU, and while the host waits for a copy of page-locked memory others use its caches: large copies slow hooks
and code down further, the code of modules behind them, too. What a mode with other copies, or without hooks, would take
of that time follows from this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from enum import Enum, auto
from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

import torch

from tracekit.capture.calibration.cores import SPREAD, Cores, last_level_cache_bytes
from tracekit.capture.calibration.devicememory import given_back
from tracekit.capture.calibration.link import fitting, page_locked
from tracekit.capture.calibration.modules import Code, Piece, Small, codes, fastest_piece, mean_piece, piece, pieces
from tracekit.capture.calibration.sample import MB, Budget, Sample, touched_bytes
from tracekit.device.choice import DeviceChoice
from tracekit.model import MODULES_BEHIND, Measure

FEW = 4096
SIZES = (FEW, 1 * MB, 4 * MB, 16 * MB, 64 * MB)
REPEATS = 2 * SPREAD
"""Two rounds on each core."""
_PLACES = 4
"""So many of the largest size: what is copied is as little in the caches as a model's weights."""
_ALIKE = 2
"""Modules of each code: as in a model, each is an object of its own."""
_WEIGHTS = 2
"""Of each module, as linear layers have them."""
_FIRST = "weight_0"
"""The one that is as large as is said; the other one has few bytes."""
_SECONDS = 1.6


class _Hooks(Enum):
    """What accelerate's hooks do at a chain's modules."""

    OFFLOADING = auto()
    NONE = auto()
    IDLE = auto()  # the weights stay


class _Measures(NamedTuple):
    """What is measured of one kind of host memory: hooks, modules' own forwards, the code between them; and behind."""

    hooks: Measure
    own: Measure
    between: Measure
    own_behind: Measure
    between_behind: Measure


_PAGEABLE = _Measures(
    Measure.HOOK_WORK,
    Measure.OWN_CODE,
    Measure.CODE_BETWEEN,
    Measure.OWN_CODE_BEHIND,
    Measure.CODE_BETWEEN_BEHIND,
)
_PAGE_LOCKED = _Measures(
    Measure.WAITED_HOOK_WORK,
    Measure.WAITED_OWN_CODE,
    Measure.WAITED_CODE_BETWEEN,
    Measure.WAITED_OWN_CODE_BEHIND,
    Measure.WAITED_CODE_BETWEEN_BEHIND,
)


def host_work_samples(device: DeviceChoice) -> Iterator[Sample]:
    """Samples of every size that fits on the device, in CPU time. Page-locked memory is CUDA's alone.

    Raises:
        RuntimeError: the device has no memory left, or the driver refuses to lock pages.
    """
    with ExitStack() as stack:
        stack.enter_context(given_back(device))
        stack.enter_context(torch.no_grad())
        sizes = fitting(device, SIZES)
        pageable = touched_bytes(max(_PLACES * sizes[-1], 2 * last_level_cache_bytes()))
        kinds = {_PAGEABLE: _InTurn(pageable)}
        if device.kind == "cuda":
            locked = touched_bytes(sizes[-1])
            stack.enter_context(page_locked(locked))
            kinds[_PAGE_LOCKED] = _InTurn(locked)
        work = stack.enter_context(closing(_Work(device, pageable[:FEW])))
        yield from _samples(work, sizes, kinds)


class _InTurn:
    """Pieces of host memory, one behind the other.

    What is copied from few places again and again stays in a large cache, and drives nothing else out.
    """

    def __init__(self, memory: torch.Tensor) -> None:
        self._memory, self._at = memory, 0

    def pieces(self, size_bytes: int) -> Iterator[torch.Tensor]:
        """Pieces of that size without end, from where the last ones ended."""
        while True:
            if self._at + size_bytes > len(self._memory):
                self._at = 0
            begin, self._at = self._at, self._at + size_bytes
            yield self._memory[begin : self._at]


def _samples(work: _Work, sizes: Sequence[int], kinds: Mapping[_Measures, _InTurn]) -> Iterator[Sample]:
    budget, cores = Budget(_SECONDS), Cores()
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
            work.settle()
            for size in sizes:
                for each in work.bringing(memory.pieces(size)):
                    yield Sample(measures.hooks, size, each.hooks)
                    yield Sample(measures.own, size, each.own)
                    yield Sample(measures.between, size, each.between)
                behind = work.behind()
                yield Sample(measures.own_behind, size, behind.own)
                yield Sample(measures.between_behind, size, behind.between)
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
        self._places = {hooks: cycle(range(len(chain))) for hooks, chain in self._chains.items()}
        self.settle()  # and accelerate may import something at its first call

    def fastest(self, hooks: _Hooks) -> Piece:
        """A chain's modules at their fastest, with few bytes copied at each."""
        self._first = self._few
        return fastest_piece(lambda: pieces(self._chains[hooks], self._given))

    def settle(self) -> None:
        """Call every module that brings something, with few bytes, until what larger copies left behind is gone."""
        self._first = self._few
        pieces(self._chains[_Hooks.OFFLOADING], self._given)

    def bringing(self, memory: Iterator[torch.Tensor]) -> list[Piece]:
        """The next module of each code, for each of which the next memory is copied.

        Each as long as it took this once. Another guest's turn on a shared core, milliseconds that a virtual machine's
        clocks count as work, makes few of such samples too long, and no median.
        """
        found = []
        for module, following in self._next(_Hooks.OFFLOADING, len(self._codes), 1):
            self._first = next(memory)
            found.append(piece(module, following, self._given))
        return found

    def behind(self) -> Piece:
        """The next modules behind these, with idle hooks, on average.

        Behind each runs code that none of its neighbours has: what a module's own takes is not in the caches for it.
        """
        pairs = self._next(_Hooks.IDLE, MODULES_BEHIND, len(self._codes) // 2)
        return mean_piece([piece(*pair, self._given) for pair in pairs])

    def _next(self, hooks: _Hooks, count: int, apart: int) -> Iterator[tuple[Small, Small]]:
        """The next modules of a chain, each with one so many further on.

        One after the other: what others bring meanwhile drives the data of each out.
        """
        chain = self._chains[hooks]
        for place in islice(self._places[hooks], count):
            yield chain[place], chain[(place + apart) % len(chain)]

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
