"""Which samples are a step's, what two runs' hosts are to each other, and when a host is said to have been slower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import build_run
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.hostspeed import STEADY, host_slowdown, unsteady_host
from tracekit.analysis.report.checks import checks
from tracekit.model import HOST_PYTHON, NONE, StepRow
from tracekit.model.report import CheckState

US = 1_000
STEPS = 4
"""The first of them is no warm one."""


def timed(samples: list[tuple[float, int]]) -> list[int | None]:
    """What each of a run's steps says, given samples at (step and share of it that has passed, ns)."""
    run = build_run(steps=STEPS)
    steps = build_timeline(run).steps
    bounds = [0, *steps["start_ns"], steps["end_ns"].iloc[-1]]  # from before the first step on
    rows = [
        {
            "series": HOST_PYTHON,
            "device_index": NONE,
            "t_ns": int(np.interp(place, np.arange(-1, STEPS + 1), bounds)),
            "value": float(took),
        }
        for place, took in samples
    ]
    counters = pd.concat([run.counters[run.counters["series"] != HOST_PYTHON], pd.DataFrame(rows)])
    return [step.host_python_ns for step in summarize(build_timeline(replace(run, counters=counters))).steps]


def row(step_index: int, host_python_ns: int | None) -> StepRow:
    zero = dict.fromkeys(
        ("copy_count", "h2d_bytes", "d2h_bytes", "h2d_ns", "copy_ns", "exposed_copy_ns", "compute_ns", "rest_ns"), 0
    )
    return StepRow(run_index=0, step_index=step_index, wall_ns=1, tracekit_ns=0, host_python_ns=host_python_ns, **zero)


def test_a_step_has_its_own_samples_and_the_one_at_its_end() -> None:
    samples = [(-0.5, 10), (1.001, 20), (1.5, 60), (2.001, 100), (3.001, 200), (4.0, 300)]
    assert timed(samples) == [15, 60, 150, 250]


def test_of_a_killed_run_the_last_step_has_what_is_there() -> None:
    assert timed([(-0.5, 10), (1.001, 20), (2.001, 30)]) == [15, 25, 30, None]


def test_a_run_that_was_not_timed_says_so() -> None:
    assert timed([]) == [None] * STEPS


steps = st.lists(st.integers(1, 10**7), min_size=1, max_size=6).map(
    lambda took: [row(index + 1, ns) for index, ns in enumerate(took)]
)


@given(steps, steps)
def test_slowdown_looking_back_is_the_inverse(one: list[StepRow], other: list[StepRow]) -> None:
    there, back = host_slowdown(one, other), host_slowdown(other, one)
    assert there is not None
    assert back is not None
    assert there * back == pytest.approx(1)


def test_a_run_that_was_not_timed_has_no_slowdown() -> None:
    assert host_slowdown([row(1, None)], [row(1, 20 * US)]) is None
    assert host_slowdown([row(1, None), row(2, 30 * US)], [row(1, 20 * US)]) == 1.5


def test_a_host_that_was_slower_in_some_warm_steps_is_named() -> None:
    (line,) = unsteady_host([row(0, 900 * US), row(1, 20 * US), row(2, 21 * US), row(3, 38 * US), row(4, None)])
    assert "slower in 1 of 3 warm steps, up to 1.9 times" in line
    assert "38.0 us in step 4 and 20.0 us in step 2" in line


@given(st.lists(st.integers(1_000, 1_249), max_size=8))
def test_a_steady_host_is_not_spoken_of(took: list[int]) -> None:
    assert unsteady_host([row(index, ns) for index, ns in enumerate(took)]) == []


@pytest.mark.parametrize(
    ("took", "state"),
    [((20, 21), CheckState.PASSED), ((20, 20 * STEADY), CheckState.NOTED), ((20,), CheckState.UNKNOWN)],
)
def test_the_report_says_whether_the_host_was_steady(took: tuple[float, ...], state: CheckState) -> None:
    timeline = build_timeline(build_run(steps=STEPS))
    summary = summarize(timeline)
    summary.steps = [row(index + 1, round(us * US)) for index, us in enumerate(took)]
    (check,) = [check for check in checks(timeline, summary, []) if check.title.startswith("The host was as fast")]
    assert check.state == state
