"""The difference of two means with its interval, and which of many differences are beyond noise."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.analysis.studentt import quantile, two_sided
from tracekit.model.compare import Difference, Outcome

CONFIDENCE = 0.95
_FEWEST_FOR_LAG = 4


@dataclass(frozen=True, slots=True)
class Welch:
    """The difference of two means whose variances may differ (Welch 1947), samples in the order of their time."""

    difference: float
    error: float
    """Standard error of the difference."""
    freedom: float

    @classmethod
    def of(cls, base: Sequence[float], other: Sequence[float]) -> Welch | None:
        """`other` less `base`; None where a side has fewer than two samples."""
        if min(len(base), len(other)) < 2:
            return None
        counts = [independent(side) for side in (base, other)]
        parts = [statistics.variance(side) / count for side, count in zip((base, other), counts, strict=True)]
        variance = sum(parts)
        difference = statistics.fmean(other) - statistics.fmean(base)
        spread = sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
        return cls(difference, math.sqrt(variance), variance**2 / spread if spread else math.inf)

    def reach(self) -> float:
        """How far the interval reaches to either side of the difference."""
        return quantile(CONFIDENCE, self.freedom) * self.error if self.error else 0.0

    def p_value(self) -> float:
        """The probability of a difference as large as this one by chance."""
        if not self.error:
            return float(self.difference == 0)
        return two_sided(self.difference / self.error, self.freedom)


def independent(samples: Sequence[float]) -> float:
    """How many independent samples these are worth: steps drift, so that neighbours are alike and tell less.

    From their autocorrelation at lag 1, ``n (1 - r) / (1 + r)``, two at least; all of them where it is not positive, or
    where they are too few to tell.
    """
    count = len(samples)
    mean = statistics.fmean(samples)
    rest = [value - mean for value in samples]
    squares = math.fsum(value**2 for value in rest)
    if count < _FEWEST_FOR_LAG or not squares:
        return count
    lag = math.fsum(a * b for a, b in itertools.pairwise(rest)) / squares
    return max(2.0, count * (1 - lag) / (1 + lag)) if lag > 0 else count


def difference(name: str, base: Sequence[float], other: Sequence[float]) -> Difference | None:
    """The quantity on both sides; None where a side has no sample."""
    if not base or not other:
        return None
    welch = Welch.of(base, other)
    means = round(statistics.fmean(base)), round(statistics.fmean(other))
    low = high = None
    outcome = Outcome.UNKNOWN
    if welch is not None:
        reach = welch.reach()
        low, high = round(welch.difference - reach), round(welch.difference + reach)
        outcome = _outcome(welch.difference, reach)
    return Difference(
        name=name,
        base=means[0],
        other=means[1],
        difference=means[1] - means[0],
        low=low,
        high=high,
        base_samples=len(base),
        other_samples=len(other),
        outcome=outcome,
    )


def _outcome(difference: float, reach: float) -> Outcome:
    if abs(difference) <= reach:
        return Outcome.NOISE
    return Outcome.MORE if difference > 0 else Outcome.LESS


def discoveries(p_values: Sequence[float], rate: float = 1 - CONFIDENCE) -> list[int]:
    """Which of many differences to believe, so that at most this share of them is expected to be false.

    Benjamini and Hochberg (1995): of `n` sorted probabilities, all up to the last that is at most ``rate * rank / n``.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    last = max((rank for rank, at in enumerate(order, 1) if p_values[at] <= rate * rank / len(order)), default=0)
    return order[:last]
