"""How much slower host work is after staged copies: between the calibrated sizes, over modules, from mode to mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.prediction.rates import Level
from tracekit.analysis.prediction.slowdown import Slowdown, scale
from tracekit.model import CeilingRow, Measure

MB = 1 << 20


def row(size: int, median: int, spread: int = 0) -> CeilingRow:
    return CeilingRow(
        measure=Measure.HOST_WORK, size_bytes=size, samples=9, median_ns=median, min_ns=median - spread,
        max_ns=median + spread,
    )  # fmt: skip


ROWS = [row(0, 100), row(4 * MB, 150, 10), row(16 * MB, 200, 20)]


def test_the_factor_is_read_between_sizes_and_stays_beyond_them() -> None:
    slowdown = Slowdown(ROWS)
    assert slowdown.usual([0])[1] == 1
    assert slowdown.usual([10 * MB])[1] == pytest.approx(1.75)
    assert slowdown.usual([1 << 40]) == pytest.approx((1.8, 2.0, 2.2))


def test_a_module_is_slower_for_what_its_neighbours_stage() -> None:
    assert Slowdown(ROWS).usual([0, 0, 0, 16 * MB])[1] == Slowdown(ROWS).usual([4 * MB])[1] == 1.5


def test_a_copy_never_makes_work_faster() -> None:
    assert Slowdown([row(0, 100, 5), row(MB, 90, 5)]).usual([MB]) == (1, 1, 1)


@pytest.mark.parametrize("rows", [[], ROWS[1:], [row(0, 100)]])
def test_without_the_measurement_nothing_is_slower(rows: list[CeilingRow]) -> None:
    assert Slowdown(rows).usual([64 * MB]) == (1, 1, 1)


factors = st.tuples(*[st.floats(1, 10)] * 3)


@given(factors, factors)
def test_the_ends_hold_the_middle_and_the_way_back_undoes_it(to: tuple, of: tuple) -> None:  # type: ignore[type-arg]
    low, middle, high = (scale(to, of, level) for level in (Level.LOW, Level.MIDDLE, Level.HIGH))
    assert low <= middle <= high
    assert scale(of, to, Level.MIDDLE) * middle == pytest.approx(1)
    assert scale(to, to, Level.LOW) == scale(to, to, Level.HIGH) == 1
