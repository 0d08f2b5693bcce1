"""How much slower host code is among hooks and after copies: by size, over modules, from mode to mode."""

from __future__ import annotations

import pytest
from builders import make_frame
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.prediction.rates import Level
from tracekit.analysis.prediction.slowdown import UNCHANGED, How, Moved, Slowdown, Slower, scale
from tracekit.model import CALIBRATION, MODULES_BEHIND, Measure

FEW, MB = 4096, 1 << 20
Rows = list[dict[str, object]]


def samples(measure: Measure, size: int, *durations: int) -> Rows:
    return [{"measure": str(measure), "size_bytes": size, "duration_ns": took} for took in durations]


def by_size(measure: Measure, **durations: int) -> Rows:
    """One sample of each size: few bytes, and as many MiB as the names say."""
    sizes = {name: FEW if name == "few" else int(name.removeprefix("mb")) * MB for name in durations}
    return [row for name, took in durations.items() for row in samples(measure, sizes[name], took)]


def slowdown(*rows: Rows) -> Slowdown:
    return Slowdown(make_frame(CALIBRATION, [row for each in rows for row in each]))


def grouped(*, own: int, alone: int, between: int, between_alone: int, mb16: int = 1) -> Rows:
    """Code among diffusers' group hooks, so many times as long with large groups; and without, in the same round."""
    return [
        *by_size(Measure.GROUP_CALL, few=50, mb16=50 * mb16),
        *by_size(Measure.GROUP_OWN_CODE, few=own, mb16=own * mb16),
        *by_size(Measure.GROUP_CODE_BETWEEN, few=between, mb16=between * mb16),
        *samples(Measure.UNGROUPED_OWN_CODE, 0, alone),
        *samples(Measure.UNGROUPED_CODE_BETWEEN, 0, between_alone),
    ]


def usual(of: Slowdown, sizes: list[int | None], how: How = How.STAGED) -> Slower:
    return of.usual([None if size is None else Moved(size, how) for size in sizes])


HOOKS = by_size(Measure.HOOK_WORK, few=100, mb4=150, mb16=200)
OWN = by_size(Measure.OWN_CODE, few=10, mb4=20, mb16=30)
AFTER = by_size(Measure.CODE_BETWEEN, few=20, mb4=30, mb16=50)
STAGED = [*HOOKS, *OWN, *AFTER]
CODE = [
    *samples(Measure.OWN_CODE_AMONG_HOOKS, 0, 40),
    *samples(Measure.OWN_CODE_ALONE, 0, 16),
    *samples(Measure.CODE_BETWEEN_AMONG_HOOKS, 0, 30),
    *samples(Measure.CODE_BETWEEN_ALONE, 0, 15),
]
IDLE = [*samples(Measure.OWN_CODE_IDLE_HOOKS, 0, 20), *samples(Measure.CODE_BETWEEN_IDLE_HOOKS, 0, 18)]


def test_a_factor_is_read_between_sizes_and_stays_beyond_them() -> None:
    of = slowdown(STAGED)
    assert usual(of, [1]) == usual(of, [FEW]) == UNCHANGED
    slower = usual(of, [10 * MB])
    assert [each[1] for each in slower] == pytest.approx([1.75, 2.5, 2.0])
    assert [each[1] for each in usual(of, [1 << 40])] == pytest.approx([2, 3, 2.5])


def test_factors_are_of_the_same_round_so_that_a_machine_that_slows_down_changes_none() -> None:
    speeds = (1, 2, 1, 3, 2)
    work = [
        *samples(Measure.OWN_CODE, FEW, *(100 * speed for speed in speeds)),
        *samples(
            Measure.OWN_CODE, MB, *(of * speed for of, speed in zip((160, 140, 150, 130, 170), speeds, strict=True))
        ),
    ]
    assert usual(slowdown(work), [MB]).own == pytest.approx((1.4, 1.5, 1.6))


def test_a_mode_is_slowed_down_as_its_modules_are_on_average() -> None:
    slower = usual(slowdown(STAGED), [FEW, 4 * MB, 16 * MB])
    assert slower.hooks[1] == pytest.approx((1 + 1.5 + 2) / 3)
    assert slower.own[1] == pytest.approx((1 + 2 + 3) / 3)
    assert slower.apart[1] == pytest.approx((1 + 1.5 + 2.5) / 3)


BEHIND = [
    *by_size(Measure.OWN_CODE_BEHIND, few=30, mb4=45, mb16=60),
    *by_size(Measure.CODE_BETWEEN_BEHIND, few=20, mb4=30, mb16=50),
]


def test_what_a_large_copy_did_to_the_caches_slows_the_next_modules_down() -> None:
    of = slowdown(STAGED, CODE, IDLE, BEHIND)
    idle, reach, further = usual(of, [0]), MODULES_BEHIND, 2
    many = 1 + reach + further
    slower = usual(of, [16 * MB, *[0] * (many - 1)])
    assert slower.hooks[1] == 2
    assert slower.own[1] == pytest.approx((3 + (reach * 2 + further) * idle.own[1]) / many)
    assert slower.apart[1] == pytest.approx((2.5 + (reach * 2.5 + further) * idle.apart[1]) / many)
    # Those before it are as fast as ever.
    assert usual(of, [*[0] * 9, 16 * MB]).own[1] == pytest.approx((3 + 9 * idle.own[1]) / 10)


def test_a_module_is_as_slow_as_its_own_copy_or_the_largest_before_it_makes_it() -> None:
    of = slowdown(STAGED, CODE, IDLE, BEHIND)
    own = [usual(of, sizes).own[1] for sizes in ([16 * MB], [16 * MB, FEW], [16 * MB, FEW, 4 * MB], [16 * MB, None])]
    assert own[1] * 2 - own[0] == pytest.approx(max(1, 2 * 0.5))  # of an idle hook's 0.5 twice as much
    assert own[2] * 3 - own[1] * 2 == pytest.approx(2)
    assert own[3] * 2 - own[0] == pytest.approx(2 * 0.4)
    # A copy on a stream of its own is not the host's.
    assert usual(of, [16 * MB, 0], How.STREAMED) == usual(slowdown(STAGED, CODE, IDLE), [16 * MB, 0], How.STREAMED)


def test_behind_a_wait_it_is_what_was_calibrated_behind_waits() -> None:
    waited = [
        *by_size(Measure.WAITED_OWN_CODE_BEHIND, few=30, mb16=36),
        *by_size(Measure.WAITED_CODE_BETWEEN_BEHIND, few=20, mb16=22),
    ]
    of = slowdown(STAGED, CODE, IDLE, BEHIND, waited)
    slower = usual(of, [16 * MB, 0], How.WAITED)
    assert slower.own[1] == pytest.approx((1 + 1.2 * 0.5) / 2)
    assert slower.apart[1] == pytest.approx((1 + 1.1 * 0.6) / 2)


def test_after_a_wait_for_page_locked_memory_work_is_slower_by_what_was_calibrated_for_that() -> None:
    waited = [
        *by_size(Measure.WAITED_HOOK_WORK, few=105, mb4=110, mb16=120),
        *by_size(Measure.WAITED_OWN_CODE, few=11, mb4=12, mb16=14),
        *by_size(Measure.WAITED_CODE_BETWEEN, few=18, mb4=22, mb16=24),
    ]
    of = slowdown(STAGED, waited)
    assert [each[1] for each in usual(of, [FEW], How.WAITED)] == pytest.approx([1.05, 1.1, 1])
    assert [each[1] for each in usual(of, [10 * MB], How.WAITED)] == pytest.approx([1.15, 1.3, 1.15])
    assert usual(slowdown(STAGED), [16 * MB], How.WAITED) == UNCHANGED


def test_among_group_hooks_code_is_slower_than_without_any_by_what_was_measured_beside_it() -> None:
    """By size; the machine was twice as fast when the other hooks' code was measured."""
    of = slowdown(STAGED, CODE, grouped(own=60, alone=32, between=54, between_alone=30, mb16=2))
    for size, times in ((FEW, 1), (16 * MB, 2)):
        expected = pytest.approx([times, 0.75 * times, 0.9 * times])
        assert [each[1] for each in usual(of, [size], How.STREAMED)] == expected
    # Between groups' first modules there are others, which have no hook.
    mixed = of.usual([Moved(16 * MB, How.STREAMED), None])
    assert mixed.hooks[1] == 2
    assert mixed.own[1] == pytest.approx((2 * 0.75 + 0.4) / 2)
    assert mixed.apart[1] == pytest.approx((2 * 0.9 + 0.5) / 2)
    assert usual(slowdown(STAGED, CODE), [16 * MB], How.STREAMED) == UNCHANGED


def test_code_without_hooks_is_faster() -> None:
    of = slowdown(STAGED, CODE)
    assert usual(of, [None, None]) == ((1, 1, 1), (0.4, 0.4, 0.4), (0.5, 0.5, 0.5))
    slower = usual(of, [None, 16 * MB, None])
    assert slower.hooks[1] == 2
    assert slower.own[1] == pytest.approx((0.4 + 3 + 0.4) / 3)
    assert slower.apart[1] == pytest.approx((0.5 + 2.5 + 0.5) / 3)


def test_where_hooks_find_the_weights_in_place_code_is_as_slow_as_among_such_hooks() -> None:
    of = slowdown(STAGED, CODE, IDLE)
    slower = usual(of, [0, 16 * MB, 0, None])
    assert slower.hooks[1] == 2  # of those that bring something: what an idle one takes is calibrated by itself
    assert slower.own[1] == pytest.approx((0.5 + 3 + 0.5 + 0.4) / 4)
    assert slower.apart[1] == pytest.approx((0.6 + 2.5 + 0.6 + 0.5) / 4)


def test_a_copy_never_makes_work_faster_nor_does_a_hook() -> None:
    assert usual(slowdown(by_size(Measure.OWN_CODE, few=100, mb1=90)), [MB]) == UNCHANGED
    odd = [*samples(Measure.OWN_CODE_AMONG_HOOKS, 0, 40), *samples(Measure.OWN_CODE_ALONE, 0, 44)]
    assert usual(slowdown(odd), [None]) == UNCHANGED
    faster = [*samples(Measure.OWN_CODE_IDLE_HOOKS, 0, 10), *grouped(own=10, alone=12, between=10, between_alone=12)]
    for moved in (Moved(0), Moved(MB, How.STREAMED)):
        assert slowdown(CODE, faster).usual([moved]).own[1] == 0.4


@pytest.mark.parametrize("rows", [[], by_size(Measure.OWN_CODE, few=10), CODE[:1], CODE[1:2]])
def test_without_the_measurement_nothing_is_slower(rows: Rows) -> None:
    of = slowdown(rows)
    assert usual(of, [64 * MB, None]) == UNCHANGED
    assert not of.knows_hooks


factors = st.tuples(*[st.floats(0.1, 10)] * 3)


@given(factors, factors)
def test_the_ends_hold_the_middle_and_the_way_back_undoes_it(to: tuple, of: tuple) -> None:  # type: ignore[type-arg]
    low, middle, high = (scale(to, of, level) for level in (Level.LOW, Level.MIDDLE, Level.HIGH))
    assert low <= middle <= high
    assert scale(of, to, Level.MIDDLE) * middle == pytest.approx(1)
    assert scale(to, to, Level.LOW) == scale(to, to, Level.HIGH) == 1
