"""A 95% interval for the mean of a few paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracekit.analysis.studentt import quantile

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 6
"""From so many pairs on nothing is assumed of the distribution; below, resampling has too little to draw from."""

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class MeanInterval:
    """The mean, its interval, and how the interval was made: ``t`` or ``bootstrap``."""

    mean: float
    low: float
    high: float
    method: str


def mean_interval(values: Sequence[float]) -> MeanInterval | None:
    """The interval for the mean of independent values; None below two of them.

    The bootstrap is the percentile one, with a fixed seed, so that the same values always give the same interval.
    """
    count = len(values)
    if count < 2:
        return None
    mean = statistics.fmean(values)
    if count < BOOTSTRAP_FROM:
        reach = quantile(CONFIDENCE, count - 1) * statistics.stdev(values) / math.sqrt(count)
        return MeanInterval(mean, mean - reach, mean + reach, "t")
    drawn = np.random.default_rng(0).choice(np.array(values, np.float64), (RESAMPLES, count))
    low, high = np.quantile(drawn.mean(axis=1), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)).tolist()
    return MeanInterval(mean, low, high, "bootstrap")
