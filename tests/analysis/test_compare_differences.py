"""A difference and its interval: signs, coverage, and how often noise is taken for more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.compare.differences import Welch, difference, discoveries, independent
from tracekit.analysis.compare.drift import drift
from tracekit.model.compare import Outcome

SAMPLES = st.lists(st.floats(0, 1e12), min_size=1, max_size=12)
MIRROR = {
    Outcome.MORE: Outcome.LESS,
    Outcome.LESS: Outcome.MORE,
    Outcome.NOISE: Outcome.NOISE,
    Outcome.UNKNOWN: Outcome.UNKNOWN,
}


@given(SAMPLES, SAMPLES)
def test_exchanging_the_sides_turns_every_sign(base: list[float], other: list[float]) -> None:
    there, back = difference("x", base, other), difference("x", other, base)
    assert there is not None
    assert back is not None
    assert (there.base, there.other, there.difference) == (back.other, back.base, -back.difference)
    assert there.outcome == MIRROR[back.outcome]
    assert (there.low is None) == (back.low is None) == (min(len(base), len(other)) < 2)
    if there.low is not None and there.high is not None and back.low is not None and back.high is not None:
        assert (there.low, there.high) == (-back.high, -back.low)


@given(SAMPLES.filter(lambda samples: len(samples) > 1))
def test_the_same_samples_do_not_differ(samples: list[float]) -> None:
    found = difference("x", samples, samples)
    assert found is not None
    assert (found.difference, found.outcome) == (0, Outcome.NOISE)


def test_welch_by_hand() -> None:
    """Means 2 and 5, variances 1 and 20/3: a squared error of 1/3 + 5/3, and 4 / ((1/3)²/2 + (5/3)²/3) freedom."""
    welch = Welch.of([1, 2, 3], [2, 8, 4, 6])
    assert welch is not None
    assert (welch.difference, welch.error) == (3, pytest.approx(2**0.5))
    assert welch.freedom == pytest.approx(4 / (1 / 18 + 25 / 27))
    # Between the tables' 2.776 for 4 degrees of freedom and 2.571 for 5.
    assert 2.571 < welch.reach() / welch.error < 2.776
    assert 0.0874 < welch.p_value() < 0.1012  # likewise, of t = 2.1213


@pytest.mark.parametrize("count", [2, 3, 9, 27])
def test_noise_is_rarely_taken_for_a_difference(count: int) -> None:
    """The interval holds the true difference, 0, in 95 of 100 pairs: 2000 pairs, seeded."""
    random = np.random.default_rng(count)
    pairs = 1e9 + 5e7 * random.standard_normal((2000, 2, count))
    outcomes = [difference("x", *pair) for pair in pairs.tolist()]
    flagged = sum(found is not None and found.outcome is not Outcome.NOISE for found in outcomes) / len(outcomes)
    assert flagged <= 0.065


def test_steps_that_are_like_their_neighbours_count_for_fewer() -> None:
    assert independent([2, 8, 4, 6]) == 4
    # Deviations -3 -1 1 3: at lag 1 they correlate by 5/20.
    assert independent([2, 4, 6, 8]) == pytest.approx(4 * 0.75 / 1.25)
    assert independent(list(range(100))) == 2
    assert independent([5, 5, 5, 5, 5]) == 5
    assert independent([1, 2, 3]) == 3


def test_drifting_noise_is_rarely_taken_for_a_difference() -> None:
    """Steps that remember half of the one before: taken for independent, 24% of the pairs would be flagged."""
    random = np.random.default_rng(3)
    noise = random.standard_normal((1000, 2, 20))
    for at in range(1, 20):
        noise[:, :, at] = 0.5 * noise[:, :, at - 1] + 0.75**0.5 * noise[:, :, at]
    outcomes = [difference("x", *pair) for pair in (1e9 + 5e7 * noise).tolist()]
    flagged = sum(found is not None and found.outcome is not Outcome.NOISE for found in outcomes) / len(outcomes)
    assert flagged < 0.1


def test_a_real_difference_is_found() -> None:
    random = np.random.default_rng(0)
    slower = [1e9 * (1.2 + 0.03 * value) for value in random.standard_normal(9)]
    found = difference("x", [1e9 * (1 + 0.03 * value) for value in random.standard_normal(9)], slower)
    assert found is not None
    assert found.outcome is Outcome.MORE
    assert found.low is not None
    assert found.low > 0.1e9


def test_nothing_on_a_side_is_no_difference() -> None:
    assert difference("x", [], [1.0]) is None
    assert difference("x", [1.0], []) is None


def test_of_many_modules_few_are_false() -> None:
    """600 modules without a difference, 60 with one: in 50 seeded tries, under a tenth of what is found is false."""
    random = np.random.default_rng(1)
    false = true = 0
    for _ in range(50):
        p_values = np.concatenate([random.uniform(size=600), random.uniform(0, 1e-4, size=60)])
        chosen = np.array(discoveries(p_values.tolist()))
        false += int((chosen < 600).sum())
        true += int((chosen >= 600).sum())
    assert true == 50 * 60
    assert false / (false + true) < 0.1


@given(st.lists(st.floats(0, 1), max_size=40))
def test_what_is_more_certain_than_something_believed_is_believed(p_values: list[float]) -> None:
    chosen = discoveries(p_values)
    worst = max((p_values[at] for at in chosen), default=-1.0)
    assert worst <= 0.05
    assert {at for at, value in enumerate(p_values) if value < worst} <= set(chosen)


def test_a_drift_is_seen_and_noise_is_not() -> None:
    random = np.random.default_rng(2)
    rising = [1e9 * (1 + 0.02 * step + 0.005 * random.standard_normal()) for step in range(10)]
    assert drift(rising) == pytest.approx(0.17, abs=0.03)
    assert drift(rising[::-1]) == pytest.approx(-0.17, abs=0.03)
    assert drift([1e9] * 10) is None
    assert drift(rising[:5]) is None
    still = [drift((1e9 + 3e7 * random.standard_normal(9)).tolist()) for _ in range(500)]
    assert sum(share is not None for share in still) <= 12  # 1% are expected
