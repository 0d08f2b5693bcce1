"""How much slower a machine was: what is compared, and that neither direction is favoured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.drift import machine_drift
from tracekit.model import CeilingRow, Measure

MIB = 1 << 20


def ceiling(measure: Measure, size_bytes: int, took_ns: int) -> CeilingRow:
    return CeilingRow(
        measure=measure, size_bytes=size_bytes, samples=1, median_ns=took_ns, min_ns=took_ns, max_ns=took_ns
    )


def test_each_piece_of_work_is_compared_by_itself() -> None:
    before = [
        ceiling(Measure.PAGEABLE_H2D, MIB, 100),
        ceiling(Measure.PAGEABLE_H2D, 16 * MIB, 1_000),
        ceiling(Measure.PIN, 16 * MIB, 7_000),
    ]
    after = [
        ceiling(Measure.PAGEABLE_H2D, MIB, 200),
        ceiling(Measure.PAGEABLE_H2D, 16 * MIB, 4_500),
        ceiling(Measure.PIN, 16 * MIB, 3_500),
    ]
    assert machine_drift(before, after) == {"pageable copies": pytest.approx(3.0), "page-locking": pytest.approx(0.5)}


def test_host_code_counts_beside_small_copies_alone() -> None:
    before = [ceiling(Measure.HOOK_WORK, 4096, 100), ceiling(Measure.HOOK_WORK, 64 * MIB, 300)]
    after = [ceiling(Measure.HOOK_WORK, 4096, 120), ceiling(Measure.HOOK_WORK, 64 * MIB, 900)]
    assert machine_drift(before, after) == {"host code": pytest.approx(1.2)}


def test_what_only_one_process_measured_is_left_out() -> None:
    small = ceiling(Measure.PAGEABLE_H2D, 4096, 10)
    assert machine_drift([small, ceiling(Measure.PIN, MIB, 1)], [small, ceiling(Measure.CLONE, MIB, 1)]) == {}


times = st.lists(st.integers(1, 10**10), min_size=3, max_size=3)


@given(before=times, after=times)
def test_looking_back_from_the_other_process_gives_the_inverse(before: list[int], after: list[int]) -> None:
    sizes = [MIB, 4 * MIB, 16 * MIB]
    one, other = (
        [ceiling(Measure.CLONE, size, took) for size, took in zip(sizes, took_ns, strict=True)]
        for took_ns in (before, after)
    )
    there, back = machine_drift(one, other), machine_drift(other, one)
    assert there["cloning"] * back["cloning"] == pytest.approx(1)
