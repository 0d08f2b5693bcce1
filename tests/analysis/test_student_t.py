"""Student's t against its own definition and against tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.studentt import quantile, two_sided


def integrated(t: float, freedom: float) -> float:
    """The probability beyond ±t, by integrating the density numerically."""
    x = np.linspace(-t, t, 200_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    density = np.exp(log_scale - (freedom + 1) / 2 * np.log1p(x * x / freedom))
    return 1 - float(np.trapezoid(density, x))


@given(st.floats(0.01, 30), st.floats(1, 200))
def test_it_is_the_integral_of_the_density(t: float, freedom: float) -> None:
    assert two_sided(t, freedom) == pytest.approx(integrated(t, freedom), abs=1e-7)
    assert two_sided(-t, freedom) == two_sided(t, freedom)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706205), (2, 4.302653), (4, 2.776445), (10, 2.228139), (1e6, 1.959966)]
)
def test_quantiles_are_those_of_the_tables(freedom: float, expected: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(expected, abs=2e-6)


@given(st.floats(0.5, 0.9999), st.floats(1, 1000))
def test_a_quantile_has_its_probability(confidence: float, freedom: float) -> None:
    assert two_sided(quantile(confidence, freedom), freedom) == pytest.approx(1 - confidence, rel=1e-6)


def test_the_ends() -> None:
    assert (two_sided(0, 3), two_sided(math.inf, 3)) == (1, 0)
