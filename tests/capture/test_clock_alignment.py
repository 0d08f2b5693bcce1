"""A clock aligned from brackets is off by no more than the error that it states."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracekit.capture.clock import Bracket, align

_TIMES = st.integers(0, 10**9)
_EVENT = st.tuples(_TIMES, st.integers(0, 10**5), st.integers(0, 10**5), st.integers(0, 10**5))


@given(st.lists(_EVENT, min_size=1, max_size=40), st.integers(-(10**18), 10**18))
def test_the_true_offset_lies_within_the_stated_error(events: list[tuple[int, int, int, int]], offset: int) -> None:
    brackets = []
    for start, lead, duration, lag in events:
        theirs = start - offset
        brackets.append(Bracket(start - lead, start + duration + lag, theirs, theirs + duration))
    found = align(brackets)
    assert found is not None
    assert abs(found.offset_ns - offset) <= found.error_ns


@given(st.lists(_EVENT, min_size=1, max_size=20))
def test_more_brackets_never_widen_the_error(events: list[tuple[int, int, int, int]]) -> None:
    brackets = [Bracket(s - lead, s + d + lag, s, s + d) for s, lead, d, lag in events]
    errors = [align(brackets[: n + 1]).error_ns for n in range(len(brackets))]  # type: ignore[union-attr]
    assert errors == sorted(errors, reverse=True)


def test_clocks_that_drift_apart_give_an_error_that_covers_both_ends() -> None:
    found = align([Bracket(0, 10, 0, 10), Bracket(1000, 1010, 1500, 1510)])
    assert found is not None
    assert found.offset_ns == -250
    assert found.error_ns >= 250


def test_without_brackets_there_is_no_map() -> None:
    assert align([]) is None
