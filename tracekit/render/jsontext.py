"""Columns of JSON text: a million rows formatted by Arrow's kernels instead of a Python loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tracekit.model import NONE
from tracekit.model.text import codes_and_texts, row_numbers, text_of
from tracekit.render.plaintext import visible

TextColumn = Any  # pyarrow is not typed: a LargeStringArray
Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]

_encode = json.JSONEncoder(ensure_ascii=False).encode
_THOUSANDTHS = pa.array([f"{index:03d}" for index in range(1000)], pa.large_string())


def quote(text: str) -> str:
    """A JSON string, control characters shown as pictures.

    JSON can write them only as escapes, and Perfetto decodes escapes only in strings that hold an escaped quote.
    """
    return _encode(visible(text))


@dataclass(frozen=True)
class Words:
    """A text column as codes into its distinct words; a code of -1 is no value."""

    codes: npt.NDArray[np.int32]
    words: Sequence[str]

    @classmethod
    def of(cls, values: Iterable[str] | pd.Series[Any]) -> Words:
        """Codes of texts, or of a text column; empty ones are no value."""
        codes, words = codes_and_texts(values if isinstance(values, pd.Series) else pd.Series(text_of(values)))
        if "" in words:
            codes = np.where(codes == words.index(""), -1, codes)
        return cls(codes.astype(np.int32), words)

    @classmethod
    def each(cls, rows: pd.DataFrame, make: Callable[..., str]) -> Words:
        """``make(*row)`` of every row, called once for each distinct row."""
        distinct = rows[~rows.duplicated()].itertuples(index=False)
        return cls(row_numbers(rows).astype(np.int32), [make(*row) for row in distinct])

    @classmethod
    def same(cls, word: str, count: int) -> Words:
        """The same word in `count` rows."""
        return cls(np.zeros(count, np.int32), [word])

    def map(self, change: Callable[[str], str]) -> Words:
        """Every distinct word changed; called once a distinct word."""
        return Words(self.codes, [change(word) for word in self.words])

    def take(self, rows: Ints | npt.NDArray[np.bool_]) -> Words:
        """The rows at these positions (or where the mask is true)."""
        return Words(self.codes[rows], self.words)

    def where(self, mask: npt.NDArray[np.bool_]) -> Words:
        """The same, but no value where the mask is false."""
        return Words(np.where(mask, self.codes, np.int32(-1)), self.words)

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Member:
    """One member of every row's ``args`` object. Left out of a row whose value is missing (-1, NaN or no word)."""

    key: str
    values: Words | Ints | Floats

    def take(self, rows: Ints | npt.NDArray[np.bool_]) -> Member:
        """The member of these rows alone."""
        values = self.values
        return Member(self.key, values.take(rows) if isinstance(values, Words) else values[rows])


def integers(values: Ints) -> TextColumn:
    """Decimal digits of integers."""
    return pa.array(values).cast(pa.large_string())


def decimals(values: Floats, digits: int = 3) -> TextColumn:
    """Finite floats rounded to `digits` decimals.

    Raises:
        ValueError: NaN or infinite. JSON has no word for them, and one in a counter keeps Perfetto busy for ever.
    """
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite has no place in a trace")
    with np.errstate(over="ignore"):
        rounded = np.round(values, digits)
    # Rounding multiplies first: the largest floats would come out infinite.
    return pa.array(np.where(np.isfinite(rounded), rounded, values) + 0.0).cast(pa.large_string())


def microseconds(nanoseconds: Ints) -> tuple[TextColumn, str, TextColumn]:
    """Exact microseconds with three decimals, as the pieces to join: whole, point, thousandths."""
    whole, rest = np.divmod(nanoseconds, 1000)
    return integers(whole), ".", _THOUSANDTHS.take(pa.array(rest))


def pick(words: Sequence[str], codes: npt.NDArray[np.int32]) -> TextColumn:
    """The word at each code; an empty text at -1."""
    # A missing code is the dictionary's last entry, so that no row is null.
    return pa.array([*words, ""], pa.large_string()).take(pa.array(np.where(codes < 0, len(words), codes)))


def join(*columns: TextColumn | str) -> TextColumn:
    """Row by row concatenation; a `str` is the same in every row."""
    return pc.binary_join_element_wise(
        *(pa.scalar(column, pa.large_string()) if isinstance(column, str) else column for column in columns),
        pa.scalar("", pa.large_string()),
    )


def data_bytes(column: TextColumn) -> memoryview:
    """All rows of a column in a row, without a copy."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]] if data is not None else memoryview(b"")


class ArgsFormatter:
    """Formats the ``args`` objects of a table's rows, its distinct words encoded once.

    A member that every row has goes first: no row needs its leading comma cut off then, which would copy all text.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        first = next(filter(_is_whole, members), None)
        self._members = sorted(members, key=lambda member: member is not first)
        self._cuts = first is None
        self._keys = [f",{quote(member.key)}:" for member in self._members]
        if not self._cuts:
            self._keys[0] = self._keys[0][1:]
        self._fragments = [
            [f"{key}{quote(word)}" for word in member.values.words] if isinstance(member.values, Words) else []
            for member, key in zip(self._members, self._keys, strict=True)
        ]

    @property
    def longest(self) -> int:
        """No row's object has more characters than this."""
        words = zip(self._fragments, self._keys, strict=True)
        return 2 + sum(max(map(len, fragments), default=len(key) + 32) for fragments, key in words)

    def __call__(self, rows: slice) -> list[TextColumn | str]:
        """The objects of these rows, braces included, as the pieces to join."""
        pieces: list[TextColumn | str] = []
        for member, key, fragments in zip(self._members, self._keys, self._fragments, strict=True):
            if isinstance(member.values, Words):
                pieces.append(pick(fragments, member.values.codes[rows]))
            else:
                pieces += _number(key, member.values[rows])
        return ["{", *((pc.utf8_slice_codeunits(join(*pieces), 1),) if self._cuts and pieces else pieces), "}"]


def _is_whole(member: Member) -> bool:
    """Whether every row has this member."""
    values = member.values
    if isinstance(values, Words):
        return bool((values.codes >= 0).all())
    return not bool(np.isnan(values).any() if values.dtype.kind == "f" else (values == NONE).any())


def _number(key: str, values: Ints | Floats) -> list[TextColumn | str]:
    if values.dtype.kind == "f":
        present = ~np.isnan(values)
        text = decimals(np.where(present, values, 0.0))
    else:
        present = values != NONE
        text = integers(values.astype(np.int64))
    if present.all():
        return [key, text]
    if not present.any():
        return []
    return [pc.if_else(pa.array(present), join(key, text), pa.scalar("", pa.large_string()))]
