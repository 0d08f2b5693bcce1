"""Text columns are the same whatever pandas makes of texts by itself."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from builders import build_run
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.model import TABLES, Timeline
from tracekit.model.text import concat_rows, plain_text, row_numbers, same_text, says, take_rows, text_column, text_of
from tracekit.render.chrome import write_chrome_trace

TEXTS = st.lists(st.sampled_from(["", "\0", "a", "b.c", "\ud83d", "é"]) | st.text(max_size=3), max_size=12)


def assert_text(column: pd.Series) -> None:
    assert isinstance(column.dtype, pd.CategoricalDtype)
    assert column.dtype.categories.dtype == object
    assert all(type(text) is str for text in column.dtype.categories)


@given(TEXTS)
def test_a_column_holds_its_texts_and_no_other(values: list[str]) -> None:
    column = pd.Series(text_of(values))
    assert_text(column)
    assert column.tolist() == values
    assert list(column.cat.categories) == sorted(set(values))


def test_equal_texts_are_one_and_the_last_stands_for_no_code() -> None:
    column = text_column(np.array([0, 2, -1], np.int8), ["b", "unused", "b", ""])
    assert (column.tolist(), list(column.categories)) == (["b", "b", ""], ["", "b"])


@given(TEXTS, TEXTS)
def test_rows_of_two_frames(first: list[str], second: list[str]) -> None:
    frames = [
        pd.DataFrame({"n": np.arange(len(values)), "text": text_of(values)}, index=np.full(len(values), 7))
        for values in (first, second)
    ]
    both = concat_rows(frames)
    pd.testing.assert_series_equal(both["text"], pd.Series(text_of(first + second), name="text"))
    assert both["n"].tolist() == [*range(len(first)), *range(len(second))]


@given(TEXTS.filter(bool), st.data())
def test_rows_at_positions_are_copies_indexed_by_position(values: list[str], data: st.DataObject) -> None:
    frame = pd.DataFrame({"n": np.arange(len(values)), "text": text_of(values), "x": 0.5})
    rows = data.draw(st.lists(st.integers(0, len(values) - 1)))
    taken = take_rows(frame, ["text", "n"], np.array(rows, np.int64))
    assert taken.columns.tolist() == ["text", "n"]
    assert taken.index.tolist() == [*range(len(rows))]
    assert (taken["n"].tolist(), taken["text"].tolist()) == (rows, [values[row] for row in rows])
    taken["n"] = -1
    assert frame["n"].tolist() == [*range(len(values))]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.booleans()), max_size=12))
def test_rows_have_equal_numbers_where_they_are_equal(rows: list[tuple[str, int, bool]]) -> None:
    texts, numbers, flags = ([row[index] for row in rows] for index in range(3))
    frame = pd.DataFrame({"text": text_of(texts), "n": np.array(numbers, np.int64), "flag": np.array(flags, bool)})
    seen = list(dict.fromkeys(rows))
    assert row_numbers(frame).tolist() == [seen.index(row) for row in rows]


def test_for_people_texts_are_what_pandas_makes_of_theirs() -> None:
    frame = plain_text(pd.DataFrame({"fqn": text_of(["a", "b", "a"]), "n": [1, 2, 3]}))
    theirs = pd.DataFrame({"fqn": ["a"], "note": ["mine"]})
    assert frame["fqn"].dtype == theirs["fqn"].dtype
    assert frame.merge(theirs, on="fqn")["n"].tolist() == [1, 3]
    assert len(frame[frame["n"] == 2].groupby(["fqn", "n"]).size()) == 1


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_every_text_of_a_run_and_its_timeline_is_such_a_column(device: str) -> None:
    run = build_run(device=device, steps=2)
    # A copy that no hook saw makes the timeline's frame from two.
    run.device_ops["size_bytes"] += (run.device_ops["size_bytes"] == 8) * 1
    timeline = build_timeline(run)
    assert (timeline.copies["copy_id"] == -1).any()
    for frame in (*(getattr(run, name) for name in TABLES), timeline.spans, timeline.copies):
        for name in frame.columns:
            if frame[name].dtype.kind not in "biuf":
                assert_text(frame[name])


def everything(timeline: Timeline) -> tuple[object, bytes]:
    stream = io.BytesIO()
    write_chrome_trace(timeline, stream, compress=False)
    return summarize(timeline), stream.getvalue()


@pytest.mark.filterwarnings("ignore:The 'future.infer_string' option is deprecated")
def test_what_pandas_infers_changes_nothing() -> None:
    results = []
    for infer in (False, True):
        # pandas 3's way with texts, which pandas 2 has as an option; pandas 3 has the old one as an option, too.
        with pd.option_context("future.infer_string", infer):
            results.append(everything(build_timeline(build_run(runs=2))))
    assert results[0] == results[1]
    assert same_text("a", 0).dtype.categories.dtype == object


def test_a_condition_is_asked_once_a_text_and_holds_for_its_rows():
    asked = []

    def is_long(text: str) -> bool:
        asked.append(text)
        return len(text) > 1

    column = pd.Series(text_of(["a", "bb", "a", "bb", "bb"]))
    assert says(column, is_long).tolist() == [False, True, False, True, True]
    assert sorted(asked) == ["a", "bb"]
    assert says(pd.Series(text_of([])), is_long).tolist() == []
