"""What a trace says in words: text columns as codes, the members of ``args`` objects, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.model import NONE
from tracekit.model.text import codes_and_texts, row_numbers, text_of
from tracekit.render.plaintext import visible
from tracekit.render.rowtext import (
    Floats,
    Formatted,
    Ints,
    Picked,
    Piece,
    RowText,
    fractions,
    whole_numbers,
    without_first,
)

_encode = json.JSONEncoder(ensure_ascii=False).encode


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

    def piece(self, before: str = "", after: str = "") -> Picked:
        """Each row's word as a JSON string between two texts; nothing at all where there is no word."""
        codes = self.codes
        return Picked(lambda rows: codes[rows] + 1, ["", *(f"{before}{quote(word)}{after}" for word in self.words)])

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


def args_pieces(members: Sequence[Member]) -> list[Piece]:
    """The ``args`` objects of a table's rows, braces included, their distinct words encoded once.

    A member that every row has goes first: no row needs its leading comma cut off then, which would copy all text.
    """
    first = next(filter(_is_whole, members), None)
    if first is not None:
        others = [member for member in members if member is not first]
        return ["{", *_member(first, ""), *(piece for member in others for piece in _member(member, ",")), "}"]
    pieces = [piece for member in members for piece in _member(member, ",")]
    if not pieces:
        return ["{}"]
    text = RowText(*pieces)
    return ["{", Formatted(lambda rows: without_first(text(rows)), text.longest), "}"]


def _member(member: Member, comma: str) -> list[Piece]:
    key, values = f"{comma}{quote(member.key)}:", member.values
    if isinstance(values, Words):
        return [values.piece(key)]
    if values.dtype.kind == "f":
        return fractions(values.astype(np.float64, copy=False), key)
    return whole_numbers(values.astype(np.int64, copy=False), key, missing=NONE)


def _is_whole(member: Member) -> bool:
    """Whether every row has this member."""
    values = member.values
    if isinstance(values, Words):
        return bool((values.codes >= 0).all())
    return not bool(np.isnan(values).any() if values.dtype.kind == "f" else (values == NONE).any())
