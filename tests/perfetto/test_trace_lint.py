"""The lint and Perfetto's engine find the same faults, and the lint also those that the engine is silent about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfetto.importing import check_import
from perfetto.lint import lint

Event = dict[str, Any]

NAMES: list[Event] = [
    {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": 0, "args": {"name": "p"}},
    {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "ts": 0, "args": {"name": "t"}},
]


def slice_(start: float, duration: float, **more: Any) -> Event:
    return {"ph": "X", "pid": 1, "tid": 2, "name": "s", "cat": "c", "ts": start, "dur": duration} | more


def flow(kind: str, time: float, **more: Any) -> Event:
    return {"ph": kind, "pid": 1, "tid": 2, "name": "f", "cat": "f", "id": 1, "ts": time, "bp": "e"} | more


def document(*events: Event) -> bytes:
    return json.dumps({"traceEvents": [*NAMES, *events]}, ensure_ascii=False).encode()


GOOD = (slice_(0, 10), slice_(2, 3), slice_(20, 1.001), flow("s", 0.5), flow("f", 20.5))


def test_a_good_trace_passes_both(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(document(*GOOD, {"ph": "C", "pid": 1, "tid": 1, "name": "m", "ts": 1, "args": {"B": 1}}))
    assert check_import(path) == []
    report = lint(path.read_bytes())
    assert (report.slices, report.flows, report.counter_samples, report.duration_ns) == (3, 1, 1, 14_001)


@pytest.mark.parametrize(
    "events",
    [
        (slice_(0, 10), slice_(5, 10)),
        (slice_(-1, 10),),
        (slice_(0, -1),),
        (slice_(0, 10, tid=2**33),),
        ({"ph": "C", "pid": 1, "tid": 1, "name": "m", "ts": 1, "args": {}},),
        ({"ph": "C", "pid": 1, "tid": 1, "name": "m", "ts": 1, "args": {"B": None}},),
        (slice_(0, 10), flow("s", 1), flow("f", 0.5)),
        (slice_(0, 10), flow("s", 1), flow("f", 30)),
        (slice_(0, 10), flow("s", 1)),
        (slice_(0, 10), flow("s", 1, id="x"), flow("f", 2, id="x")),
        (slice_(0, 10), flow("s", 1), flow("s", 1), flow("f", 2)),
        (slice_(0, 10, name="a\nb"),),
        (slice_(0, 10, ph="B"),),
    ],
)
def test_each_fault_is_found(events: tuple[Event, ...]) -> None:
    assert lint(document(*events)).errors


def test_what_has_no_name_is_warned_of() -> None:
    assert set(lint(document(slice_(0, 1, tid=3, name=""))).warnings) == {"no thread_name", "a slice without a name"}


def test_numbers_that_are_no_json_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN is not JSON"):
        lint(document(slice_(0, 1, args={"a": float("nan")})))


def test_perfettos_own_counters_say_what_it_dropped(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(document(slice_(0, 10), slice_(5, 10)))
    problems = check_import(path)
    assert any("stats.slice_drop_overlapping_complete_event = 1" in problem for problem in problems)
    assert any("the file holds 2 slices, Perfetto 1" in problem for problem in problems)


def test_a_file_that_perfetto_refuses_is_a_problem_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(document(*GOOD)[:-3])
    (problem,) = check_import(path)
    assert problem.startswith("not loaded: ")
