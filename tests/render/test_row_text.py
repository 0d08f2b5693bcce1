from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekit.render import rowtext
from tracekit.render.rowtext import Formatted, Picked, Piece, RowText, fractions, integers, microseconds, whole_numbers

ROWS = 9
CONSTANTS = st.text(max_size=3)
PICKED = st.tuples(
    st.lists(st.text(max_size=3), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=ROWS, max_size=ROWS)
)
NUMBERS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 9), min_size=ROWS, max_size=ROWS)
END = Picked(lambda rows: np.zeros(ROWS, np.int32)[rows], [""])
"""Rows of constants alone would be no column."""
COLUMNS = st.lists(CONSTANTS | PICKED | NUMBERS, min_size=1, max_size=6)


def piece_and_texts(column: Any) -> tuple[Piece, list[str]]:
    """A piece, and by itself the text of every row that it stands for."""
    if isinstance(column, str):
        return column, [column] * ROWS
    if isinstance(column, tuple):
        texts, numbers = column
        codes = np.array(numbers, np.int32) % len(texts)
        return Picked(lambda rows: codes[rows], texts), [texts[code] for code in codes]
    values = np.array(column, np.int64)
    return Formatted(lambda rows: integers(values[rows])), [str(value) for value in column]


def texts_of(*pieces: Piece, count: int) -> list[str]:
    return RowText(*pieces, END)(slice(0, count)).to_pylist()


@given(COLUMNS, st.integers(0, ROWS - 1), st.sampled_from([0, 40, 1_000_000]))
def test_rows_are_their_pieces_in_a_row_however_many_are_put_together(columns: Any, first: int, most: int) -> None:
    pieces, texts = zip(*map(piece_and_texts, columns), strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowtext, "_FOLDED_CHARACTERS", most)
        row_text = RowText(*pieces, "|", END)
    expected = ["".join(row) + "|" for row in zip(*texts, strict=True)][first:]
    assert row_text(slice(first, ROWS)).to_pylist() == expected
    assert max(map(len, expected), default=0) <= row_text.longest


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 9), min_size=1, max_size=9))
def test_whole_numbers_are_digits_and_a_missing_one_has_no_key(values: list[int]) -> None:
    made = texts_of("<", *whole_numbers(np.array(values, np.int64), "n:", missing=-1), ">", count=len(values))
    assert made == ["<>" if value == -1 else f"<n:{value}>" for value in values]


@given(st.lists(st.none() | st.integers(0, 10**9), min_size=1, max_size=9))
def test_fractions_have_three_decimals_and_a_missing_one_has_no_key(thousandths: list[int | None]) -> None:
    values = np.array([np.nan if number is None else number / 1000 for number in thousandths])
    made = texts_of("<", *fractions(values, "x:"), ">", count=len(values))
    for text, number in zip(made, thousandths, strict=True):
        assert text == "<>" if number is None else round(float(text[3:-1]) * 1000) == number


@given(st.lists(st.floats(1e-9, 1e9) | st.floats(-1e9, -1e-9), min_size=1, max_size=9))
def test_fractions_keep_three_digits_of_what_is_small(values: list[float]) -> None:
    made = texts_of(*fractions(np.array(values), "x:"), count=len(values))
    for text, value in zip(made, values, strict=True):
        known = float(text.removeprefix("x:"))
        assert known != 0
        # Three decimals at least, three digits at least, nine decimals at most.
        assert abs(known - value) <= max(min(0.0005, 0.005 * abs(value)), 0.5e-9) * (1 + 1e-6)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=9))
def test_microseconds_lose_no_nanosecond(times: list[int]) -> None:
    made = texts_of(*microseconds(np.array(times, np.int64)), count=len(times))
    assert [int(text.replace(".", "")) for text in made] == times


def test_long_texts_are_not_multiplied() -> None:
    """A stranger's run may have long names: no pair of all of them is made."""
    codes = np.zeros(1, np.int32)
    long = Picked(lambda rows: codes[rows], [f"{index:01000}" for index in range(1000)])
    assert len(rowtext._fold((long, long, long))) == 3
