"""How much longer the host's work takes for what offload hooks, and copies that the host itself makes, leave behind.

A hook's own code and data take the CPU's caches over, so that a model's code among hooks is slower than without any;
the driver stages a copy from pageable memory with the CPU, whose caches hold nothing of the program after it; and while
the host waits for a copy of page-locked memory, others use them. The calibration times modules' forwards, and code
between them, with hooks and without; and the call of an offloaded module after copies of several sizes from either
memory, and those of unlike modules after it, which find the hooks' code in the caches again, but not their own.

So there are three kinds of host work: offload hooks; the own forwards of modules that have weights; and the code apart
from them, between one such module and the next. Each is taken to slow down by what a mode's modules do to it on
average. What is measured side by side is compared round by round, since a machine's speed changes between rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from statistics import fmean
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.prediction.rates import Level
from tracekit.model import Measure

Factors = tuple[float, float, float]
"""A factor by the quartiles of the calibration's rounds: the lower, the median and the upper."""


class Moved(NamedTuple):
    """Bytes copied to the device for a module in a warm step: by the host itself, or while it waits."""

    size_bytes: float
    page_locked: bool = False


_Number = TypeVar("_Number", Factors, float)


class HostWork(NamedTuple, Generic[_Number]):
    """How much longer each kind of host work takes."""

    hooks: _Number
    own: _Number
    """Own forwards of modules that have weights."""
    apart: _Number
    """Everything else."""


Slower = HostWork[Factors]
"""Than among hooks that copy nothing."""
HostScales = HostWork[float]
"""Than in the profiled run."""
UNCHANGED = Slower((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
_QUARTILES = (25, 50, 75)
_MEASURES = {
    False: ((Measure.HOST_WORK, Measure.HOST_WORK), (Measure.HOST_WORK_NEXT, Measure.HOST_WORK_NEXT)),
    True: ((Measure.WAITED_WORK, Measure.HOST_WORK), (Measure.WAITED_WORK_NEXT, Measure.HOST_WORK_NEXT)),
}
"""By whether the memory is page-locked: of a module by itself and of those after it, what is held against what."""
_Samples = dict[tuple[Measure, int], npt.NDArray[np.float64]]


class Slowdown:
    """Factors by the bytes copied before the work, and of code without hooks; 1 where the calibration has no such."""

    def __init__(self, calibration: pd.DataFrame) -> None:
        samples = _samples(calibration)
        self._curves = {
            page_locked: [_Curves(samples, *measures) for measures in pairs] for page_locked, pairs in _MEASURES.items()
        }
        among, alone = (samples.get((measure, 0)) for measure in (Measure.CODE_AMONG_HOOKS, Measure.CODE_ALONE))
        self.knows_copies = (Measure.HOST_WORK, 0) in samples
        self.knows_hooks = among is not None and alone is not None
        self._alone: Factors = (1.0, 1.0, 1.0)
        if among is not None and alone is not None:
            low, middle, high = _ratios(alone, among)
            self._alone = min(low, 1.0), min(middle, 1.0), min(high, 1.0)

    def usual(self, moved: Sequence[Moved | None]) -> Slower:
        """Of modules that have weights, in the order of their calls; None where no hook moves weights of the module."""
        if not moved:
            return UNCHANGED
        factors = [self._of(each or Moved(0)) for each in moved]
        low, middle, high = (
            _means(
                (
                    (each is not None, by_itself[level], None if left_behind is None else left_behind[level])
                    for each, (by_itself, left_behind) in zip(moved, factors, strict=True)
                ),
                self._alone[level],
            )
            for level in range(len(_QUARTILES))
        )
        hooks, own, apart = zip(low, middle, high, strict=True)
        return Slower(hooks, own, apart)

    def _of(self, moved: Moved) -> tuple[Factors, Factors | None]:
        """Of a module by itself, and what it leaves behind: None where it copies less than was calibrated."""
        by_itself, left_behind = self._curves[moved.page_locked]
        counts = moved.size_bytes >= by_itself.least_bytes
        return by_itself.factors(moved.size_bytes), left_behind.factors(moved.size_bytes) if counts else None


def _samples(calibration: pd.DataFrame) -> _Samples:
    """The samples in the order of the rounds."""
    found: dict[tuple[Measure, int], list[int]] = {}
    columns = (calibration[name].tolist() for name in ("measure", "size_bytes", "duration_ns"))
    for measure, size_bytes, duration_ns in zip(*columns, strict=True):
        found.setdefault((Measure(measure), size_bytes), []).append(duration_ns)
    return {key: np.array(durations, np.float64) for key, durations in found.items()}


class _Curves:
    """One measure's factors by size, at each quartile; against the work of another one with nothing copied before."""

    def __init__(self, samples: _Samples, measure: Measure, by_itself: Measure) -> None:
        nothing = samples.get((by_itself, 0))
        self.least_bytes = min((size for kind, size in samples if kind is measure and size), default=1)
        self._sizes, self._levels = [0], [[1.0], [1.0], [1.0]]
        if nothing is not None:
            for size in sorted(size for kind, size in samples if kind is measure and size):
                self._sizes.append(size)
                for level, factor in zip(self._levels, _ratios(samples[measure, size], nothing), strict=True):
                    level.append(max(factor, 1.0))
        self.factors = cache(self._factors)

    def _factors(self, size_bytes: float) -> Factors:
        """After so many bytes."""
        low, middle, high = (float(np.interp(size_bytes, self._sizes, level)) for level in self._levels)
        return low, middle, high


def _ratios(these: npt.NDArray[np.float64], those: npt.NDArray[np.float64]) -> Factors:
    """Quartiles of the ratios of what was measured in the same rounds."""
    rounds = min(len(these), len(those))
    low, middle, high = np.percentile(these[:rounds] / np.maximum(those[:rounds], 1), _QUARTILES).tolist()
    return low, middle, high


def _means(modules: Iterable[tuple[bool, float, float | None]], alone: float) -> tuple[float, float, float]:
    """The mean factors of hooks, own forwards and code apart.

    Of each module: whether it has a hook, the factor by itself, and what it leaves behind. That counts until another
    one leaves something behind, for modules without a hook, too.
    """
    hooks, own, apart, after = [], [], [], 1.0
    for has_hook, by_itself, left_behind in modules:
        here = max(by_itself, after) if left_behind is None else by_itself
        after = after if left_behind is None else left_behind
        if has_hook:
            hooks.append(here)
        own.append(here if has_hook else here * alone)
        apart.append(after if has_hook else after * alone)
    return fmean(hooks) if hooks else 1.0, fmean(own), fmean(apart)


def scale(target: Factors, source: Factors, level: Level) -> float:
    """How much longer work takes in one mode than in another, at one end of what the samples say."""
    ratios = [to / of for to, of in zip(target, source, strict=True)]
    return {Level.LOW: min(ratios), Level.MIDDLE: ratios[1], Level.HIGH: max(ratios)}[level]
