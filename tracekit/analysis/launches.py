"""When, and in which thread, the host asked for what the device did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.model import NONE


@dataclass(frozen=True)
class Launches:
    """One entry a device operation: the call that asked for it, and `row`, its position in runtime_calls.

    An operation whose call is not known (CUDA graphs launch many by one) has its device times; its thread and row are
    `NONE`.
    """

    start_ns: Times
    end_ns: Times
    thread_id: Times
    row: Times

    def take(self, index: npt.NDArray[np.intp]) -> Launches:
        """The entries at these positions."""
        return Launches(self.start_ns[index], self.end_ns[index], self.thread_id[index], self.row[index])


class LaunchFinder:
    """Finds the calls behind rows of device_ops by their correlation ids."""

    def __init__(self, runtime_calls: pd.DataFrame, chosen: npt.NDArray[np.bool_] | None = None) -> None:
        """`chosen`: which of the calls may be behind an operation; all, where it is not given."""
        self._calls = [runtime_calls[name].to_numpy() for name in ("start_ns", "end_ns", "thread_id")]
        ids = runtime_calls["correlation_id"].to_numpy()
        rows = np.flatnonzero(ids != NONE if chosen is None else chosen & (ids != NONE))
        # The runtime's and the driver's record of one call may share an id: the outer one began first.
        rows = rows[np.lexsort((self._calls[0][rows], ids[rows]))]
        self._rows = rows[np.diff(ids[rows], prepend=NONE) != 0]
        self._ids = ids[self._rows]

    def find(self, ops: pd.DataFrame) -> Launches:
        """The calls behind these operations, in their order."""
        start, end, wanted = (ops[name].to_numpy() for name in ("start_ns", "end_ns", "correlation_id"))
        nowhere = np.full(len(ops), NONE, np.int64)
        if len(self._ids) == 0:
            return Launches(start, end, nowhere, nowhere)
        at = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        row = np.where(self._ids[at] == wanted, self._rows[at], NONE)
        start, end, thread = (
            np.where(row == NONE, own, call[row]) for own, call in zip((start, end, nowhere), self._calls, strict=True)
        )
        return Launches(start, end, thread, row)
