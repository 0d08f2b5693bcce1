"""Columns of text made of pieces: a million rows formatted by Arrow's kernels instead of a Python loop.

Every piece that is joined to a row costs as much as a short copy, so what is known beforehand is put together once:
constants go into the texts beside them, and columns of few texts that stand side by side become one of their pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TextColumn = Any  # pyarrow is not typed: a LargeStringArray
Ints = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]

_FEW = 4_096
"""Whole numbers that span no more values are looked up instead of formatted."""
_FOLDED_CHARACTERS = 1_000_000
"""Columns are put together when all pairs of their texts are no longer than this."""
_NO_TEXT = pa.scalar("", pa.large_string())


@dataclass(frozen=True)
class Picked:
    """A piece that is one of some texts: ``texts[codes(rows)]`` in the rows of a slice."""

    codes: Callable[[slice], Ints]
    texts: Sequence[str]


@dataclass(frozen=True)
class Formatted:
    """A piece of another text in each row: ``make(rows)`` in the rows of a slice, at most `longest` characters."""

    make: Callable[[slice], TextColumn]
    longest: int = 32


Piece = str | Picked | Formatted


class RowText:
    """Rows of text, each of the same pieces in a row. A `str` is the same in every row; one piece at least is not."""

    def __init__(self, *pieces: Piece) -> None:
        folded = _fold(pieces)
        self.longest = sum(map(_longest, folded))
        """No row has more characters than this, or hardly."""
        self._columns = [_column(piece) for piece in folded]

    def __call__(self, rows: slice) -> TextColumn:
        """The text of these rows."""
        return pc.binary_join_element_wise(*(column(rows) for column in self._columns), _NO_TEXT)


def whole_numbers(values: Ints, key: str = "", missing: int | None = None) -> list[Piece]:
    """Decimal digits of integers behind `key`; nothing at all where the value is `missing`."""
    if not len(values):
        return []
    low, high = int(values.min()), int(values.max())
    if high - low < _FEW:
        texts = ["" if value == missing else f"{key}{value}" for value in range(low, high + 1)]
        return [Picked(lambda rows: values[rows] - low, texts)]
    if missing is None or not (values == missing).any():
        return [key, Formatted(lambda rows: integers(values[rows]))]
    return [_optional(lambda rows: values[rows] != missing, key, lambda rows: integers(values[rows]))]


def fractions(values: Floats, key: str = "") -> list[Piece]:
    """Floats of three decimals behind `key`, small ones of three digits; nothing at all where the value is NaN.

    Raises:
        ValueError: infinite, when the rows are made.
    """
    missing = np.isnan(values)
    if missing.all():
        return []
    if not missing.any():
        return [key, Formatted(lambda rows: decimals(values[rows], _digits(values[rows])))]
    filled = np.where(missing, 0.0, values)
    return [_optional(lambda rows: ~missing[rows], key, lambda rows: decimals(filled[rows], _digits(filled[rows])))]


def microseconds(nanoseconds: Ints) -> list[Piece]:
    """Exact microseconds with three decimals, of times that are not negative."""
    thousandths = Picked(lambda rows: nanoseconds[rows] % 1000, [f".{index:03d}" for index in range(1000)])
    return [Formatted(lambda rows: integers(nanoseconds[rows] // 1000)), thousandths]


def integers(values: Ints) -> TextColumn:
    """Decimal digits of integers."""
    return pa.array(values).cast(pa.large_string())


def decimals(values: Floats, digits: int | Ints) -> TextColumn:
    """Finite floats rounded to `digits` decimals, all alike or each its own.

    Raises:
        ValueError: NaN or infinite. JSON has no word for them, and one in a counter keeps Perfetto busy for ever.
    """
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite has no place in a trace")
    with np.errstate(over="ignore"):
        scale = np.float64(10.0) ** digits
        rounded = np.round(values * scale) / scale
    # Rounding multiplies first: the largest floats would come out infinite.
    return pa.array(np.where(np.isfinite(rounded), rounded, values) + 0.0).cast(pa.large_string())


def _digits(values: Floats) -> Ints:
    """Three decimals, and up to nine where a value has fewer than three digits in them.

    The few bytes of a norm's weight go at 0.000256 GB/s, which is not nothing.
    """
    size = np.abs(values)
    small = (size > 0) & (size < 1)
    exponent = np.floor(np.log10(np.where(small, size, 1.0)))
    digits: Ints = np.clip(2 - exponent, 3, 9).astype(np.int64)
    return digits


def data_bytes(column: TextColumn) -> memoryview:
    """All rows of a column in a row, without a copy."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return memoryview(data)[bounds[0] : bounds[-1]] if data is not None else memoryview(b"")


def without_first(column: TextColumn) -> TextColumn:
    """Each text without its first character; empty ones as they are."""
    return pc.utf8_slice_codeunits(column, 1)


def _optional(present: Callable[[slice], npt.NDArray[np.bool_]], key: str, text: Callable[[slice], Any]) -> Formatted:
    opening = pa.scalar(key, pa.large_string())

    def make(rows: slice) -> TextColumn:
        keyed = pc.binary_join_element_wise(opening, text(rows), _NO_TEXT)
        return pc.if_else(pa.array(present(rows)), keyed, _NO_TEXT)

    return Formatted(make, len(key) + Formatted.longest)


def _fold(pieces: Sequence[Piece]) -> list[Piece]:
    folded: list[Piece] = []
    for piece in pieces:
        together = _together(folded[-1], piece) if folded else None
        if together is None:
            folded.append(piece)
        else:
            folded[-1] = together
    return folded


def _together(left: Piece, right: Piece) -> Piece | None:
    """Both pieces as one, or None where that has to be done row by row."""
    if isinstance(left, str):
        if isinstance(right, str):
            return left + right
        return Picked(right.codes, [left + text for text in right.texts]) if isinstance(right, Picked) else None
    if not isinstance(left, Picked):
        return None
    if isinstance(right, str):
        return Picked(left.codes, [text + right for text in left.texts])
    return _pairs(left, right) if isinstance(right, Picked) else None


def _pairs(left: Picked, right: Picked) -> Picked | None:
    count = len(right.texts)
    characters = count * sum(map(len, left.texts)) + len(left.texts) * sum(map(len, right.texts))
    if characters > _FOLDED_CHARACTERS:
        return None
    texts = [one + other for one in left.texts for other in right.texts]
    return Picked(lambda rows: left.codes(rows).astype(np.int64) * count + right.codes(rows), texts)


def _longest(piece: Piece) -> int:
    if isinstance(piece, str):
        return len(piece)
    return max(map(len, piece.texts), default=0) if isinstance(piece, Picked) else piece.longest


def _column(piece: Piece) -> Callable[[slice], TextColumn]:
    """What makes the column of a piece, the piece's own texts given to Arrow once."""
    if isinstance(piece, Formatted):
        return piece.make
    if isinstance(piece, str):
        return partial(_same, pa.scalar(piece, pa.large_string()))
    codes, texts = piece.codes, pa.array(piece.texts, pa.large_string())
    return lambda rows: texts.take(pa.array(codes(rows)))


def _same(constant: Any, _rows: slice) -> Any:
    return constant
