"""Find rows by their ids."""

from __future__ import annotations

import numpy as np

from tracekit.analysis.intervals import Times
from tracekit.model import NONE

_SPARSE = 4
"""Ids that reach further than this many times their number are looked up by sorting them, not in a table."""


def positions(ids: Times, wanted: Times) -> Times:
    """Where each wanted id stands among `ids`, the last place of equal ones; `NONE` where it is not."""
    if len(ids) == 0:
        return np.full(len(wanted), NONE, np.int64)
    # A recorder numbers its rows from 0 on, so a table of all ids is hardly longer than they are.
    if ids.min() >= 0 and ids.max() < _SPARSE * len(ids):
        table = np.full(int(ids.max()) + 2, NONE, np.int64)
        table[ids] = np.arange(len(ids))
        return table[np.where((wanted >= 0) & (wanted < len(table)), wanted, len(table) - 1)]
    order = np.argsort(ids, kind="stable")
    row = order[np.maximum(np.searchsorted(ids, wanted, side="right", sorter=order) - 1, 0)]
    return np.where((ids[row] == wanted) & (wanted != NONE), row, NONE)
