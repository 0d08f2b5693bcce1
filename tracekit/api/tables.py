"""Rows of a summary as data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pandas as pd


def rows_frame(kind: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> pd.DataFrame:
    """A column a field, also without rows; enumerations as their texts, a missing number as pandas has it."""
    import pandas as pd

    names = [field.name for field in msgspec.structs.fields(kind)]
    frame = pd.DataFrame([msgspec.to_builtins(row) for row in rows], columns=names)
    # A column with no value at all holds no number that would make it one of numbers.
    return frame.astype({name: float for name in names if len(frame) and frame[name].isna().all()})
