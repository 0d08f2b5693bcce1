"""The simulated machine: bounds that hold for any schedule, and closed forms for even ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.prediction.machine import Machine

TIMES = st.integers(0, 1000)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("work"), TIMES, TIMES),
        st.tuples(st.just("copy"), TIMES, TIMES),
        st.tuples(st.just("copy_ahead"), TIMES, TIMES),
        st.tuples(st.sampled_from(["wait_link", "wait_compute"])),
    ),
    max_size=60,
)


def played(calls: list[tuple[object, ...]], *, in_place: bool = False) -> Machine:
    machine = Machine(in_place=in_place)
    for name, *arguments in calls:
        getattr(machine, str(name))(*arguments)
    return machine


@given(CALLS, st.booleans())
def test_no_schedule_is_shorter_than_a_resource_is_busy_or_longer_than_all_together(
    calls: list[tuple[object, ...]], in_place: bool
) -> None:
    machine = played(calls, in_place=in_place)
    busy = (machine.host_busy, machine.compute_busy, machine.link_busy)
    assert max(busy) <= machine.now <= sum(busy)


@given(CALLS, CALLS)
def test_more_work_never_ends_sooner(calls: list[tuple[object, ...]], more: list[tuple[object, ...]]) -> None:
    assert played(calls + more).now >= played(calls).now


@given(CALLS)
def test_a_host_that_computes_itself_does_nothing_beside_it(calls: list[tuple[object, ...]]) -> None:
    machine = played(calls, in_place=True)
    assert machine.host >= machine.host_busy + machine.compute_busy
    assert machine.now >= played(calls).now


@pytest.mark.parametrize(("copy", "compute"), [(10, 3), (3, 10), (5, 5)])
def test_even_layers_copied_in_order_add_up(copy: int, compute: int) -> None:
    machine = Machine()
    for _ in range(20):
        machine.copy(copy)
        machine.work(0, compute)
    assert machine.now == 20 * (copy + compute)


@pytest.mark.parametrize(("copy", "compute"), [(10, 3), (3, 10), (5, 5)])
def test_even_layers_prefetched_by_one_take_the_larger_of_the_two(copy: int, compute: int) -> None:
    layers, machine = 20, Machine()
    machine.copy_ahead(copy)
    for layer in range(layers):
        machine.wait_link()
        if layer + 1 < layers:
            machine.copy_ahead(copy)
        machine.work(0, compute)
        machine.wait_compute()
    # The first copy and the last layer have nothing beside them.
    assert machine.now == copy + (layers - 1) * max(copy, compute) + compute
