"""The interval for a mean: its quantiles by integration, a worked example, and what any interval must obey."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.meaninterval import BOOTSTRAP_FROM, CONFIDENCE, mean_interval


def t_probability(reach: float, df: int, slices: int = 20_000) -> float:
    """P(T <= reach) of Student's t, by Simpson's rule over its density; slices is even."""
    scale = math.gamma((df + 1) / 2) / (math.sqrt(df * math.pi) * math.gamma(df / 2))
    width = reach / slices
    weights = [1 if index in (0, slices) else 4 if index % 2 else 2 for index in range(slices + 1)]
    density = [(1 + (index * width) ** 2 / df) ** (-(df + 1) / 2) for index in range(slices + 1)]
    return 0.5 + scale * width / 3 * sum(weight * value for weight, value in zip(weights, density, strict=True))


@pytest.mark.parametrize("count", range(2, BOOTSTRAP_FROM))
def test_the_reach_below_the_bootstrap_is_that_of_students_density(count: int) -> None:
    values = [float(value**2) for value in range(count)]
    found = mean_interval(values)
    assert found is not None
    reach = (found.high - found.mean) / (statistics.stdev(values) / math.sqrt(count))
    assert t_probability(reach, count - 1) == pytest.approx((1 + CONFIDENCE) / 2, abs=1e-6)


def test_a_worked_example() -> None:
    # Mean 10, standard deviation 1, three values: 10 -+ 4.3027 / sqrt(3).
    found = mean_interval([9.0, 10.0, 11.0])
    assert found is not None
    assert (found.mean, found.method) == (10.0, "t")
    assert (found.low, found.high) == pytest.approx((7.5159, 12.4841), abs=1e-4)


def test_from_six_on_it_is_the_bootstrap_and_always_the_same() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    found = mean_interval(values)
    assert found == mean_interval(values)
    assert found is not None
    assert found.method == "bootstrap"
    # The distribution is skewed to the right, and so is the interval: a symmetric one would fail here.
    assert found.high - found.mean > 1.1 * (found.mean - found.low)


def test_the_bootstrap_is_near_the_normal_interval_where_that_is_right() -> None:
    values = [random.Random(7).gauss(100, 5) for _ in range(1)] + random.Random(8).choices(range(90, 111), k=199)
    found = mean_interval([float(value) for value in values])
    assert found is not None
    reach = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach), abs=0.1 * reach)


@pytest.mark.parametrize("values", [[], [3.0]])
def test_below_two_values_there_is_none(values: list[float]) -> None:
    assert mean_interval(values) is None


finite = st.integers(-(10**12), 10**12).map(float)


@given(st.lists(finite, min_size=2, max_size=8), st.integers(-(10**12), 10**12))
def test_the_mean_lies_inside_and_the_interval_moves_with_the_values(values: list[float], by: int) -> None:
    found, moved = mean_interval(values), mean_interval([value + by for value in values])
    assert found is not None
    assert moved is not None
    near = {"rel": 1e-6, "abs": 1.0}
    assert found.low <= found.mean + 1
    assert found.mean <= found.high + 1
    assert moved.low == pytest.approx(found.low + by, **near)
    assert moved.high == pytest.approx(found.high + by, **near)


@given(st.lists(finite, min_size=2, max_size=5))
def test_the_t_interval_of_negated_values_is_its_mirror_image(values: list[float]) -> None:
    found, mirrored = mean_interval(values), mean_interval([-value for value in values])
    assert found is not None
    assert mirrored is not None
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), rel=1e-6, abs=1.0)
