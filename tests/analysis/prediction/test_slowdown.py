"""How much slower host work is after staged copies and among hooks: by size, over modules, from mode to mode."""

from __future__ import annotations

import pandas as pd
import pytest
from builders import make_frame
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.prediction.rates import Level
from tracekit.analysis.prediction.slowdown import UNCHANGED, Moved, Slowdown, Slower, scale
from tracekit.model import CALIBRATION, Measure

MB = 1 << 20


def samples(size: int, *durations: int, measure: Measure = Measure.HOST_WORK) -> list[dict[str, object]]:
    return [{"measure": str(measure), "size_bytes": size, "duration_ns": took} for took in durations]


def calibration(*rows: list[dict[str, object]]) -> pd.DataFrame:
    return make_frame(CALIBRATION, [row for each in rows for row in each])


def usual(slowdown: Slowdown, staged: list[int | None], *, page_locked: bool = False) -> Slower:
    return slowdown.usual([None if size is None else Moved(size, page_locked) for size in staged])


WORK = [*samples(0, 100), *samples(4 * MB, 150), *samples(16 * MB, 200)]
AFTER = [
    *samples(0, 50, measure=Measure.HOST_WORK_NEXT),
    *samples(4 * MB, 55, measure=Measure.HOST_WORK_NEXT),
    *samples(16 * MB, 65, measure=Measure.HOST_WORK_NEXT),
]
CODE = [*samples(0, 40, measure=Measure.CODE_AMONG_HOOKS), *samples(0, 20, measure=Measure.CODE_ALONE)]


def test_the_factor_is_read_between_sizes_and_stays_beyond_them() -> None:
    slowdown = Slowdown(calibration(WORK))
    assert usual(slowdown, [0]) == UNCHANGED
    assert usual(slowdown, [10 * MB]).own[1] == usual(slowdown, [10 * MB]).hooks[1] == pytest.approx(1.75)
    assert usual(slowdown, [1 << 40]).own[1] == pytest.approx(2)


def test_factors_are_of_the_same_round_so_that_a_machine_that_slows_down_changes_none() -> None:
    speeds = (1, 2, 1, 3, 2)
    work = [
        *samples(0, *(100 * speed for speed in speeds)),
        *samples(MB, *(factor * speed for factor, speed in zip((160, 140, 150, 130, 170), speeds, strict=True))),
    ]
    assert usual(Slowdown(calibration(work)), [MB]).hooks == pytest.approx((1.4, 1.5, 1.6))


def test_a_mode_is_slowed_down_as_its_modules_are_on_average() -> None:
    slower = usual(Slowdown(calibration(WORK)), [0, 4 * MB, 0, 16 * MB])
    assert slower.hooks[1] == slower.own[1] == (1 + 1.5 + 1 + 2) / 4


def test_what_is_apart_from_copies_is_slower_for_what_was_staged_before_it() -> None:
    slowdown = Slowdown(calibration(WORK, AFTER))
    # 16 MiB leave 1.3 behind, also for a copy of less than was calibrated, until 4 MiB are staged, which leave 1.1.
    slower = usual(slowdown, [0, 16 * MB, 0, MB, 4 * MB, 0])
    assert slower.hooks[1] == slower.own[1] == pytest.approx((1 + 2 + 1.3 + 1.3 + 1.5 + 1.1) / 6)
    assert slower.apart[1] == pytest.approx((1 + 1.3 + 1.3 + 1.3 + 1.1 + 1.1) / 6)


def test_after_a_wait_for_page_locked_memory_work_is_slower_by_what_was_calibrated_for_that() -> None:
    waited = [
        *samples(4 * MB, 110, measure=Measure.WAITED_WORK),
        *samples(16 * MB, 120, measure=Measure.WAITED_WORK),
        *samples(4 * MB, 52, measure=Measure.WAITED_WORK_NEXT),
        *samples(16 * MB, 54, measure=Measure.WAITED_WORK_NEXT),
    ]
    slowdown = Slowdown(calibration(WORK, AFTER, waited))
    slower = usual(slowdown, [16 * MB, 0, 10 * MB], page_locked=True)
    assert slower.hooks[1] == slower.own[1] == pytest.approx((1.2 + 1.08 + 1.15) / 3)
    assert slower.apart[1] == pytest.approx((1.08 + 1.08 + 1.06) / 3)
    assert usual(Slowdown(calibration(WORK, AFTER)), [16 * MB], page_locked=True) == UNCHANGED


def test_code_without_hooks_is_faster_and_slower_again_for_what_was_staged_before_it() -> None:
    slowdown = Slowdown(calibration(WORK, AFTER, CODE))
    assert usual(slowdown, [None, None]) == ((1, 1, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    slower = usual(slowdown, [None, 16 * MB, None])
    assert slower.hooks[1] == 2
    assert slower.own[1] == pytest.approx((0.5 + 2 + 1.3 * 0.5) / 3)
    assert slower.apart[1] == pytest.approx((0.5 + 1.3 + 1.3 * 0.5) / 3)


def test_a_copy_never_makes_work_faster_nor_does_a_hook() -> None:
    assert usual(Slowdown(calibration(samples(0, 100), samples(MB, 90))), [MB]) == UNCHANGED
    odd = [*samples(0, 40, measure=Measure.CODE_AMONG_HOOKS), *samples(0, 44, measure=Measure.CODE_ALONE)]
    assert usual(Slowdown(calibration(odd)), [None]) == UNCHANGED


@pytest.mark.parametrize("rows", [[], WORK[1:], samples(0, 100), CODE[:1], CODE[1:]])
def test_without_the_measurement_nothing_is_slower(rows: list[dict[str, object]]) -> None:
    slowdown = Slowdown(calibration(rows))
    assert usual(slowdown, [64 * MB, None]) == UNCHANGED
    assert not slowdown.knows_hooks


factors = st.tuples(*[st.floats(0.1, 10)] * 3)


@given(factors, factors)
def test_the_ends_hold_the_middle_and_the_way_back_undoes_it(to: tuple, of: tuple) -> None:  # type: ignore[type-arg]
    low, middle, high = (scale(to, of, level) for level in (Level.LOW, Level.MIDDLE, Level.HIGH))
    assert low <= middle <= high
    assert scale(of, to, Level.MIDDLE) * middle == pytest.approx(1)
    assert scale(to, to, Level.LOW) == scale(to, to, Level.HIGH) == 1
