"""How much longer the host's work takes for what offload hooks, and copies that the host itself makes, leave behind.

A hook's own code and data take the CPU's caches over, so that a model's code among hooks is slower than without any;
the driver stages a copy from pageable memory with the CPU, whose caches hold nothing of the program after it. The
calibration times modules' forwards, and code between them, with hooks and without; and the call of an offloaded module
after copies of several sizes, and those of unlike modules after it, which find the hooks' code in the caches again, but
not their own.

So there are three kinds of host work: offload hooks; the own forwards of modules that have weights; and the code apart
from them, between one such module and the next. Each is taken to slow down by what a mode's modules do to it on
average. What is measured side by side is compared round by round, since a machine's speed changes between rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.prediction.rates import Level
from tracekit.model import Measure

Factors = tuple[float, float, float]
"""A factor by the quartiles of the calibration's rounds: the lower, the median and the upper."""

Staged = float | None
"""Bytes that the host itself copies for a module in a warm step; None where no hook moves weights of the module."""


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
_Samples = dict[tuple[Measure, int], npt.NDArray[np.float64]]


class Slowdown:
    """Factors by the bytes copied before the work, and of code without hooks; 1 where the calibration has no such."""

    def __init__(self, calibration: pd.DataFrame) -> None:
        samples = _samples(calibration)
        self._by_itself, self._left_behind = (
            _Curves(samples, measure) for measure in (Measure.HOST_WORK, Measure.HOST_WORK_NEXT)
        )
        among, alone = (samples.get((measure, 0)) for measure in (Measure.CODE_AMONG_HOOKS, Measure.CODE_ALONE))
        self.knows_copies = self._by_itself.measured
        self.knows_hooks = among is not None and alone is not None
        self._alone: Factors = (1.0, 1.0, 1.0)
        if among is not None and alone is not None:
            low, middle, high = _ratios(alone, among)
            self._alone = min(low, 1.0), min(middle, 1.0), min(high, 1.0)

    def usual(self, staged: Sequence[Staged]) -> Slower:
        """Of modules that have weights, in the order of their calls."""
        if not staged:
            return UNCHANGED
        sizes = [size or 0.0 for size in staged]
        hooked = [size is not None for size in staged]
        counted = [size >= self._by_itself.least_bytes for size in sizes]
        curves = zip(self._by_itself.factors(sizes), self._left_behind.factors(sizes), self._alone, strict=True)
        low, middle, high = (
            _means(zip(hooked, counted, by_itself.tolist(), left_behind.tolist(), strict=True), alone)
            for by_itself, left_behind, alone in curves
        )
        hooks, own, apart = zip(low, middle, high, strict=True)
        return Slower(hooks, own, apart)


def _samples(calibration: pd.DataFrame) -> _Samples:
    """The samples in the order of the rounds."""
    found: dict[tuple[Measure, int], list[int]] = {}
    columns = (calibration[name].tolist() for name in ("measure", "size_bytes", "duration_ns"))
    for measure, size_bytes, duration_ns in zip(*columns, strict=True):
        found.setdefault((Measure(measure), size_bytes), []).append(duration_ns)
    return {key: np.array(durations, np.float64) for key, durations in found.items()}


class _Curves:
    """One measure's factors by size, at each quartile."""

    def __init__(self, samples: _Samples, measure: Measure) -> None:
        nothing = samples.get((measure, 0))
        self.measured = nothing is not None
        self.least_bytes = min((size for kind, size in samples if kind is measure and size), default=1)
        self._sizes, self._levels = [0], [[1.0], [1.0], [1.0]]
        if nothing is not None:
            for size in sorted(size for kind, size in samples if kind is measure and size):
                self._sizes.append(size)
                for level, factor in zip(self._levels, _ratios(samples[measure, size], nothing), strict=True):
                    level.append(max(factor, 1.0))

    def factors(self, staged_bytes: Sequence[float]) -> list[npt.NDArray[np.float64]]:
        """Each level's factor after so many bytes."""
        return [np.interp(staged_bytes, self._sizes, level) for level in self._levels]


def _ratios(these: npt.NDArray[np.float64], those: npt.NDArray[np.float64]) -> Factors:
    """Quartiles of the ratios of what was measured in the same rounds."""
    rounds = min(len(these), len(those))
    low, middle, high = np.percentile(these[:rounds] / np.maximum(those[:rounds], 1), _QUARTILES).tolist()
    return low, middle, high


def _means(modules: Iterable[tuple[bool, bool, float, float]], alone: float) -> tuple[float, float, float]:
    """The mean factors of hooks, own forwards and code apart.

    Of each module: whether it has a hook, whether it copies as much as was calibrated, and the factors by itself and
    left behind. What is left behind counts until another copies so much, for modules without a hook, too.
    """
    hooks, own, apart, after = [], [], [], 1.0
    for has_hook, counts, by_itself, left_behind in modules:
        here = by_itself if counts else max(by_itself, after)
        if counts:
            after = left_behind
        if has_hook:
            hooks.append(here)
        own.append(here if has_hook else here * alone)
        apart.append(after if has_hook else after * alone)
    return fmean(hooks) if hooks else 1.0, fmean(own), fmean(apart)


def scale(target: Factors, source: Factors, level: Level) -> float:
    """How much longer work takes in one mode than in another, at one end of what the samples say."""
    ratios = [to / of for to, of in zip(target, source, strict=True)]
    return {Level.LOW: min(ratios), Level.MIDDLE: ratios[1], Level.HIGH: max(ratios)}[level]
