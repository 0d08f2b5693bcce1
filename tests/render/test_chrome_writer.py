from __future__ import annotations

import gzip
import io
import json
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.lint import lint

from tracekit.render import chromewriter
from tracekit.render.chromewriter import MAX_RELATIVE_NS, ChromeTraceWriter, FlowPoints
from tracekit.render.jsontext import Member, Words

BASE = 1_700_000_000_000_000_000
SOME_TEXT = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


class Written:
    """A writer into memory with one named process and thread."""

    def __init__(self, compress: bool = False) -> None:
        self.stream = io.BytesIO()
        self.writer = ChromeTraceWriter(self.stream, BASE, {"schemaVersion": 1}, compress=compress)
        self.writer.process(1, "process", 0)
        self.writer.thread(1, 2, "thread", 0)

    def slices(self, starts: list[int], ends: list[int], name: str = "a", args: list[Member] | None = None) -> None:
        count = len(starts)
        self.writer.slices(
            1, np.full(count, 2), BASE + ints(*starts), BASE + ints(*ends),
            categories=Words.same("c", count), names=Words.same(name, count), args=args or [],
        )  # fmt: skip

    def document(self) -> Any:
        self.writer.close()
        return json.loads(self.stream.getvalue())

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.document()["traceEvents"] if event["ph"] == kind]


def test_a_slice_as_it_is_written() -> None:
    written = Written()
    args = [
        Member("bytes", ints(5, -1)),
        Member("GB/s", np.array([0.12345, np.nan])),
        Member("fqn", Words.of(['a"b', ""])),
    ]
    written.slices([1_234, 5_000], [2_000, 5_000], args=args)
    written.writer.close()
    first, second = written.stream.getvalue().decode().splitlines()[-3:-1]
    assert first == (
        '{"ph":"X","cat":"c","pid":1,"tid":2,"name":"a","ts":1.234,"dur":0.766,'
        '"args":{"bytes":5,"GB/s":0.123,"fqn":"a\\"b"}},'
    )
    assert second == '{"ph":"X","cat":"c","pid":1,"tid":2,"name":"a","ts":5.000,"dur":0.000,"args":{}}'


def test_an_empty_trace_is_valid_json() -> None:
    stream = io.BytesIO()
    ChromeTraceWriter(stream, 0, {}, compress=False).close()
    assert json.loads(stream.getvalue()) == {"traceEvents": []}


@given(st.lists(st.integers(0, MAX_RELATIVE_NS - 2), min_size=1, max_size=20))
def test_every_nanosecond_survives(times: list[int]) -> None:
    written = Written()
    written.slices(times, [time + 1 for time in times])
    events = written.events("X")
    assert [round(event["ts"] * 1000) for event in events] == times
    assert {event["dur"] for event in events} == {0.001}


def test_more_rows_than_one_chunk_stay_in_order() -> None:
    written = Written()
    times = list(range(100_000))
    written.slices(times, times)
    assert [round(event["ts"] * 1000) for event in written.events("X")] == times


def test_long_names_are_written_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromewriter, "CHARACTERS_AT_ONCE", 3_000)
    sizes = []
    written = Written()
    monkeypatch.setattr(written.stream, "write", lambda data: sizes.append(len(data)), raising=False)
    written.slices(list(range(20)), list(range(1, 21)), name="n" * 500, args=[Member("fqn", Words.same("f" * 500, 20))])
    assert len(sizes) == 10
    assert max(sizes) <= 3_000


@pytest.mark.parametrize(
    ("starts", "ends"), [([-1], [5]), ([5], [4]), ([0], [MAX_RELATIVE_NS]), ([0, MAX_RELATIVE_NS], [1, 1])]
)
def test_times_that_viewers_bend_are_refused(starts: list[int], ends: list[int]) -> None:
    with pytest.raises(ValueError, match=r"slice ends before|time before"):
        Written().slices(starts, ends)


@pytest.mark.parametrize("tid", [0, -1, 2**31, 140_000_000_000_000])
def test_thread_ids_that_viewers_fold_are_refused(tid: int) -> None:
    with pytest.raises(ValueError, match="thread id"):
        Written().writer.thread(1, tid, "name", 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_counter_that_would_hang_perfetto_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Written().writer.counter(1, "memory", "GiB", BASE + ints(0, 1), np.array([1.0, value]))


def test_infinite_args_are_refused_and_unknown_ones_left_out() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Written().slices([0], [1], args=[Member("GB/s", np.array([np.inf]))])
    written = Written()
    written.slices([0], [1], args=[Member("GB/s", np.array([np.nan]))])
    assert written.events("X")[0]["args"] == {}


def test_a_flow_that_runs_backwards_is_refused() -> None:
    points = [FlowPoints(ints(1), ints(2), BASE + ints(time)) for time in (10, 9)]
    with pytest.raises(ValueError, match="before it starts"):
        Written().writer.flows("weights", *points)


def test_flow_ids_are_never_used_twice() -> None:
    written = Written()
    for time in (0, 10):
        point = FlowPoints(ints(1, 1), ints(2, 2), BASE + ints(time, time + 1))
        written.writer.flows("weights", point, point)
    assert sorted(event["id"] for event in written.events("s")) == [1, 2, 3, 4]


@given(SOME_TEXT, SOME_TEXT)
def test_any_text_is_written_without_an_escape_that_perfetto_cannot_read(name: str, value: str) -> None:
    written = Written()
    written.slices([0], [1], name=name, args=[Member("key", Words.of([value]))])
    written.writer.close()
    report = lint(written.stream.getvalue())
    assert (report.errors, report.warnings) == ({}, {})
    event = json.loads(written.stream.getvalue())["traceEvents"][-1]
    assert len(event["name"]) == len(name)
    changed = [was for was, now in zip(name, event["name"], strict=True) if was != now]
    assert all(unicodedata.category(character) in ("Cc", "Cs") for character in changed)


def test_control_characters_become_visible_and_lone_surrogates_a_question_mark() -> None:
    written = Written()
    written.slices([0], [1], name="a\nb\x1b[31m\ud83d\U0001f600")
    assert written.events("X")[0]["name"] == "a␊b␛[31m?\U0001f600"


def test_gzip_holds_no_time_and_no_name() -> None:
    first, second = Written(compress=True), Written(compress=True)
    for written in (first, second):
        written.slices([0], [1])
        written.writer.close()
    assert first.stream.getvalue() == second.stream.getvalue()
    assert first.stream.getvalue()[4:8] == b"\0\0\0\0"
    assert gzip.decompress(first.stream.getvalue()).startswith(b'{"schemaVersion": 1')
