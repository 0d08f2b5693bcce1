"""Text columns of data frames: numbers into the texts that occur, alike under pandas 2 and pandas 3.

Left to guess, pandas 2 makes objects of texts and pandas 3 strings, and the two do not join. A text column of ours is a
categorical, whose categories are Python strings: the texts that occur, sorted. It compares, sorts, groups and is copied
like small integers. ``groupby`` needs ``observed=True``, or below pandas 3 it makes a group of every combination of
all texts. Not imported by the package `tracekit.model`, since pandas is slow to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def text_column(codes: npt.NDArray[np.integer[Any]], texts: Sequence[str]) -> pd.Categorical:
    """The column ``[texts[code] for code in codes]``; `texts` may have equal ones, and ones that do not occur."""
    occurs = np.zeros(len(texts), np.bool_)
    occurs[codes] = True
    categories = sorted({str(text) for text, there in zip(texts, occurs, strict=True) if there})
    places = {text: place for place, text in enumerate(categories)}
    # As narrow as pandas keeps them: nothing wider is made of millions of rows.
    narrow = np.min_scalar_type(-max(len(categories), 1))
    place = np.array([places.get(text, 0) for text in texts], narrow)
    return pd.Categorical.from_codes(place[codes], categories=pd.Index(categories, dtype=object))


def text_of(values: Iterable[str]) -> pd.Categorical:
    """The column that holds these texts."""
    places: dict[str, int] = {}
    codes = [places.setdefault(text, len(places)) for text in values]
    return text_column(np.array(codes, np.int64), list(places))


def same_text(text: str, count: int) -> pd.Categorical:
    """The column that says the same in `count` rows."""
    return text_column(np.zeros(count, np.int8), [text])


def codes_and_texts(column: pd.Series[Any]) -> tuple[npt.NDArray[np.int64], list[str]]:
    """A text column's numbers, and the texts that they mean (some may not occur, after rows were selected)."""
    # pandas keeps them in as few bits as it can: wide ones can be calculated with.
    return column.cat.codes.to_numpy().astype(np.int64), list(column.cat.categories)


def says(column: pd.Series[Any], holds: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """Whether `holds` of each text of a column, which is asked once a text and not once a row."""
    return np.array([holds(text) for text in column.cat.categories], np.bool_)[column.cat.codes.to_numpy()]


def starts_with(column: pd.Series[Any], prefix: str) -> npt.NDArray[np.bool_]:
    """Whether each text of a column begins with `prefix`."""
    return says(column, lambda text: text.startswith(prefix))


def row_numbers(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """A number for each row, equal where the rows are equal, from 0 in the order of their first appearance."""
    numbers = np.zeros(len(rows), np.int64)
    for name in rows.columns:
        column = rows[name]
        is_text = isinstance(column.dtype, pd.CategoricalDtype)
        codes, distinct = codes_and_texts(column) if is_text else pd.factorize(column.to_numpy())
        numbers = pd.factorize(numbers * len(distinct) + codes)[0] if name != rows.columns[0] else codes
    return numbers if len(rows.columns) > 1 else pd.factorize(numbers)[0]


def paths_around(fqn: str) -> Iterator[str]:
    """A module's path and that of every module around it; a pipeline or bare module, whose path is empty, has none."""
    while fqn:
        yield fqn
        fqn = fqn.rpartition(".")[0]


def take_rows(frame: pd.DataFrame, columns: Sequence[str], rows: npt.NDArray[np.int64]) -> pd.DataFrame:
    """Some columns of the rows at some positions, indexed by position. Each is copied once, and no other column is."""
    return pd.DataFrame({name: frame[name].array.take(rows) for name in columns}, copy=False)


def by_position(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame indexed by position: itself where it is so already, since pandas would copy every column."""
    return frame if frame.index.equals(pd.RangeIndex(len(frame))) else frame.reset_index(drop=True)


def rows_by(
    frame: pd.DataFrame, rows: npt.NDArray[np.int64], keys: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """Some columns of the rows at some positions, by integer keys, indexed by position. Equal rows stay in order.

    ``sort_values`` by several keys makes categories of each first, and copies every column.
    """
    ordered = rows[np.lexsort([frame[key].to_numpy()[rows] for key in reversed(keys)])]
    taken = take_rows(frame, columns, ordered)
    taken.index = pd.Index(ordered)
    return taken


def concat_rows(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of frames with the same columns, one frame after the other, indexed by position."""
    return pd.DataFrame({name: _concat([frame[name] for frame in frames]) for name in frames[0].columns})


def plain_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its text columns as pandas makes them of texts: for people, whose own texts join them then."""
    return frame.astype({name: str for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)})


def _concat(columns: Sequence[pd.Series[Any]]) -> Any:
    if not isinstance(columns[0].dtype, pd.CategoricalDtype):
        return np.concatenate([column.to_numpy() for column in columns])
    codes: list[npt.NDArray[np.int64]] = []
    texts: list[str] = []
    for column in columns:
        own_codes, own_texts = codes_and_texts(column)
        codes.append(own_codes + len(texts))
        texts += own_texts
    return text_column(np.concatenate(codes), texts)
