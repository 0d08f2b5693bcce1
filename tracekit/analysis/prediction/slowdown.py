"""How much longer host code takes for offload hooks around it, and for what they copy.

A hook's own code, the driver's and what they touch take the CPU's caches over, so that a model's code among hooks is
slower than without any; the driver stages a copy from pageable memory with the CPU, whose caches hold nothing of the
program after it; and while the host waits for a copy of page-locked memory, others use them. Then what the next modules
touch is not in the caches either. The calibration times hooks, modules' own forwards and the code behind their calls:
among hooks that copy little and much from either memory, behind those, among diffusers' group hooks, and without hooks.

These are the three kinds of host work. Each is taken to slow down by what a mode's modules do to it on average. What is
measured side by side is compared round by round, since a machine's speed changes between rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from functools import cache
from operator import mul
from statistics import fmean
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.prediction.rates import Level
from tracekit.model import MODULES_BEHIND, Measure

Factors = tuple[float, float, float]
"""A factor by the quartiles of the calibration's rounds: the lower, the median and the upper."""


class How(Enum):
    """What a copy to the device is to the host."""

    STAGED = auto()  # the host makes it, or a copy within host memory for it
    WAITED = auto()  # from page-locked memory, and the host waits
    STREAMED = auto()  # from page-locked memory on a stream of its own


class Moved(NamedTuple):
    """Bytes copied to the device for a module in a warm step; 0 where its hook finds its weights there."""

    size_bytes: float
    how: How = How.STAGED


_Kind = TypeVar("_Kind")


class HostWork(NamedTuple, Generic[_Kind]):
    """Something of each kind of host work."""

    hooks: _Kind
    own: _Kind
    """Own forwards of modules that have weights."""
    apart: _Kind
    """Everything else."""


Slower = HostWork[Factors]
"""How much longer it takes than among hooks that copy a few bytes."""
HostScales = HostWork[float]
"""How much longer it takes than in the profiled run."""
_SAME: Factors = (1.0, 1.0, 1.0)
UNCHANGED = Slower(_SAME, _SAME, _SAME)
_QUARTILES = (25, 50, 75)
_STAGED = HostWork(Measure.HOOK_WORK, Measure.OWN_CODE, Measure.CODE_BETWEEN)
_WAITED = HostWork(Measure.WAITED_HOOK_WORK, Measure.WAITED_OWN_CODE, Measure.WAITED_CODE_BETWEEN)
_STREAMED = HostWork(Measure.GROUP_CALL, Measure.GROUP_OWN_CODE, Measure.GROUP_CODE_BETWEEN)
_UNGROUPED = HostWork(Measure.GROUP_CALL, Measure.UNGROUPED_OWN_CODE, Measure.UNGROUPED_CODE_BETWEEN)


class _Code(NamedTuple):
    """What is measured of code in one surrounding."""

    own: Measure
    apart: Measure


_AMONG = _Code(Measure.OWN_CODE_AMONG_HOOKS, Measure.CODE_BETWEEN_AMONG_HOOKS)
_ALONE = _Code(Measure.OWN_CODE_ALONE, Measure.CODE_BETWEEN_ALONE)
_IDLE = _Code(Measure.OWN_CODE_IDLE_HOOKS, Measure.CODE_BETWEEN_IDLE_HOOKS)
_BEHIND_STAGED = _Code(Measure.OWN_CODE_BEHIND, Measure.CODE_BETWEEN_BEHIND)
_BEHIND_WAITED = _Code(Measure.WAITED_OWN_CODE_BEHIND, Measure.WAITED_CODE_BETWEEN_BEHIND)
_Key = tuple[Measure, int]
_Samples = dict[_Key, npt.NDArray[np.float64]]


class Slowdown:
    """Factors by what is copied before the work, and of code without hooks; 1 where the calibration has no such."""

    def __init__(self, calibration: pd.DataFrame) -> None:
        samples = _samples(calibration)
        measured = {measure for measure, _ in samples}
        self.knows_copies = Measure.OWN_CODE in measured
        self._curves = {
            How.STAGED: _curves(samples, _STAGED, _STAGED),
            How.WAITED: _curves(samples, _WAITED, _STAGED),
            How.STREAMED: _curves(samples, _STREAMED, _UNGROUPED),
        }
        self._behind = {
            How.STAGED: _curves(samples, _BEHIND_STAGED, _BEHIND_STAGED),
            How.WAITED: _curves(samples, _BEHIND_WAITED, _BEHIND_STAGED),
        }
        self.knows_hooks = all((code.own, 0) in samples for code in (_AMONG, _ALONE))
        self._alone = _combined(min, _against_hooks(samples, _ALONE), UNCHANGED)
        # What diffusers' hooks are held against, if they were calibrated: code without any.
        self._ungrouped = self._alone if Measure.GROUP_OWN_CODE in measured else UNCHANGED
        # No hook makes code faster.
        self._idle = _combined(max, _against_hooks(samples, _IDLE), self._alone)
        self._slower = cache(self._slower_behind)  # many modules are alike

    def usual(self, moved: Sequence[Moved | None]) -> Slower:
        """The mean over modules that have weights, in the order of their calls; None where a module has no hook."""
        if not moved:
            return UNCHANGED
        factors = [self._slower(*pair) for pair in zip(moved, self._largest_before(moved), strict=True)]
        hooks = [of.hooks for each, of in zip(moved, factors, strict=True) if each is not None and each.size_bytes]
        return Slower(_mean(hooks), _mean([of.own for of in factors]), _mean([of.apart for of in factors]))

    def _largest_before(self, moved: Sequence[Moved | None]) -> Iterator[Moved | None]:
        """For each module the largest of what was copied for those before it that leaves something behind."""
        leaving = [each if each is not None and each.how in self._behind else None for each in moved]
        for place in range(len(moved)):
            others = (other for other in leaving[max(place - MODULES_BEHIND, 0) : place] if other is not None)
            yield max(others, key=lambda other: other.size_bytes, default=None)

    def _slower_behind(self, moved: Moved | None, before: Moved | None) -> Slower:
        """What slows a module down most: what it brings itself, or what is left of a copy before it."""
        of = self._of(moved)
        if before is None:
            return of
        own, apart = (curve.factors(before.size_bytes) for curve in self._behind[before.how])
        in_place = self._alone if moved is None else self._idle
        left = _combined(mul, in_place, Slower(_SAME, own, apart))
        return _combined(max, of, left)._replace(hooks=of.hooks)

    def _of(self, moved: Moved | None) -> Slower:
        if moved is None:
            return self._alone
        if not moved.size_bytes:
            return self._idle
        slower = Slower(*(curve.factors(moved.size_bytes) for curve in self._curves[moved.how]))
        return _combined(mul, self._ungrouped, slower) if moved.how is How.STREAMED else slower


def _samples(calibration: pd.DataFrame) -> _Samples:
    """The samples in the order of the rounds."""
    found: dict[_Key, list[int]] = {}
    columns = (calibration[name].tolist() for name in ("measure", "size_bytes", "duration_ns"))
    for measure, size_bytes, duration_ns in zip(*columns, strict=True):
        found.setdefault((Measure(measure), size_bytes), []).append(duration_ns)
    return {key: np.array(durations, np.float64) for key, durations in found.items()}


def _against_hooks(samples: _Samples, code: _Code) -> Slower:
    """Code in one surrounding against that among hooks that copy a few bytes."""
    own, apart = (_ratios(samples, (measure, 0), (of, 0)) for measure, of in zip(code, _AMONG, strict=True))
    return Slower(_SAME, own, apart)


def _combined(combine: Callable[[float, float], float], these: Slower, those: Slower) -> Slower:
    return Slower(*(_each(combine, *pair) for pair in zip(these, those, strict=True)))


class _Curve:
    """One measure's factors by size, at each quartile; against another one's smallest size."""

    def __init__(self, samples: _Samples, measure: Measure, base: Measure) -> None:
        few = min((size for kind, size in samples if kind is base), default=0)
        self._sizes = sorted(size for kind, size in samples if kind is measure)
        factors = [_each(max, _ratios(samples, (measure, size), (base, few)), _SAME) for size in self._sizes]
        self._levels = list(zip(*factors, strict=True))
        self.factors = cache(self._factors)

    def _factors(self, size_bytes: float) -> Factors:
        """After so many bytes."""
        if not self._sizes:
            return _SAME
        low, middle, high = (float(np.interp(size_bytes, self._sizes, level)) for level in self._levels)
        return low, middle, high


def _curves(samples: _Samples, measures: Sequence[Measure], bases: Sequence[Measure]) -> list[_Curve]:
    return [_Curve(samples, *pair) for pair in zip(measures, bases, strict=True)]


def _ratios(samples: _Samples, one: _Key, other: _Key) -> Factors:
    """Quartiles of the ratios of what was measured in the same rounds; 1 where one of both was not."""
    if not {one, other} <= samples.keys():
        return _SAME
    these, those = samples[one], samples[other]
    rounds = min(len(these), len(those))
    low, middle, high = np.percentile(these[:rounds] / np.maximum(those[:rounds], 1), _QUARTILES).tolist()
    return low, middle, high


def _mean(factors: Sequence[Factors]) -> Factors:
    low, middle, high = map(fmean, zip(*factors, strict=True)) if factors else _SAME
    return low, middle, high


def _each(combine: Callable[[float, float], float], these: Factors, those: Factors) -> Factors:
    low, middle, high = map(combine, these, those)
    return low, middle, high


def scale(target: Factors, source: Factors, level: Level) -> float:
    """How much longer work takes in one mode than in another, at one end of what the samples say."""
    ratios = [to / of for to, of in zip(target, source, strict=True)]
    return {Level.LOW: min(ratios), Level.MIDDLE: ratios[1], Level.HIGH: max(ratios)}[level]
