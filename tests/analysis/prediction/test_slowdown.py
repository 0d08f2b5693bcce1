"""How much slower host work is after staged copies: between the calibrated sizes, over modules, from mode to mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.prediction.rates import Level
from tracekit.analysis.prediction.slowdown import UNCHANGED, Slowdown, scale
from tracekit.model import CeilingRow, Measure

MB = 1 << 20


def row(size: int, median: int, spread: int = 0, measure: Measure = Measure.HOST_WORK) -> CeilingRow:
    return CeilingRow(
        measure=measure, size_bytes=size, samples=9, median_ns=median, min_ns=median - spread,
        max_ns=median + spread,
    )  # fmt: skip


ROWS = [row(0, 100), row(4 * MB, 150, 10), row(16 * MB, 200, 20)]


def test_the_factor_is_read_between_sizes_and_stays_beyond_them() -> None:
    slowdown = Slowdown(ROWS)
    assert slowdown.usual([0]) == UNCHANGED
    assert slowdown.usual([10 * MB]).near[1] == pytest.approx(1.75)
    assert slowdown.usual([1 << 40]).near == pytest.approx((1.8, 2.0, 2.2))


def test_a_mode_is_slowed_down_as_its_modules_are_on_average() -> None:
    assert Slowdown(ROWS).usual([0, 4 * MB, 0, 16 * MB]).near[1] == (1 + 1.5 + 1 + 2) / 4


def test_what_is_apart_from_copies_is_slower_for_what_was_staged_before_it() -> None:
    after = [
        row(size, median, measure=Measure.HOST_WORK_NEXT) for size, median in ((0, 50), (4 * MB, 55), (16 * MB, 65))
    ]
    slowdown = Slowdown([*ROWS, *after])
    # 16 MiB leave 1.3 behind, also for a small copy, until 4 MiB are staged, which leave 1.1.
    staged = [0, 16 * MB, 0, MB, 4 * MB, 0]
    assert slowdown.usual(staged).near[1] == pytest.approx((1 + 2 + 1.3 + 1.3 + 1.5 + 1.1) / 6)
    assert slowdown.usual(staged).apart[1] == pytest.approx((1 + 1.3 + 1.3 + 1.3 + 1.1 + 1.1) / 6)


def test_a_copy_never_makes_work_faster() -> None:
    assert Slowdown([row(0, 100, 5), row(MB, 90, 5)]).usual([MB]) == UNCHANGED


@pytest.mark.parametrize("rows", [[], ROWS[1:], [row(0, 100)]])
def test_without_the_measurement_nothing_is_slower(rows: list[CeilingRow]) -> None:
    assert Slowdown(rows).usual([64 * MB]) == UNCHANGED


factors = st.tuples(*[st.floats(1, 10)] * 3)


@given(factors, factors)
def test_the_ends_hold_the_middle_and_the_way_back_undoes_it(to: tuple, of: tuple) -> None:  # type: ignore[type-arg]
    low, middle, high = (scale(to, of, level) for level in (Level.LOW, Level.MIDDLE, Level.HIGH))
    assert low <= middle <= high
    assert scale(of, to, Level.MIDDLE) * middle == pytest.approx(1)
    assert scale(to, to, Level.LOW) == scale(to, to, Level.HIGH) == 1
