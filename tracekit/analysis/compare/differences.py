"""The difference of two means with its interval, and which of many differences are beyond noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tracekit.analysis.studentt import quantile, two_sided
from tracekit.model.compare import Difference, Outcome

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Welch:
    """The difference of two means of independent samples whose variances may differ (Welch 1947)."""

    difference: float
    error: float
    """Standard error of the difference."""
    freedom: float

    @classmethod
    def of(cls, base: Sequence[float], other: Sequence[float]) -> Welch | None:
        """`other` less `base`; None where a side has fewer than two samples."""
        if min(len(base), len(other)) < 2:
            return None
        parts = [statistics.variance(side) / len(side) for side in (base, other)]
        variance = sum(parts)
        difference = statistics.fmean(other) - statistics.fmean(base)
        weights = zip(parts, (base, other), strict=True)
        spread = sum(part**2 / (len(side) - 1) for part, side in weights)
        return cls(difference, math.sqrt(variance), variance**2 / spread if spread else math.inf)

    def reach(self) -> float:
        """How far the interval reaches to either side of the difference."""
        return quantile(CONFIDENCE, self.freedom) * self.error if self.error else 0.0

    def p_value(self) -> float:
        """The probability of a difference as large as this one by chance."""
        if not self.error:
            return float(self.difference == 0)
        return two_sided(self.difference / self.error, self.freedom)


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
