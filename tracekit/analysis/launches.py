"""When, and in which thread, the host asked for what the device did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.model import NONE, RunData


@dataclass(frozen=True)
class Launches:
    """One entry a device operation: the call that asked for it. `thread_id` is `NONE` where the call is not known."""

    start_ns: Times
    end_ns: Times
    thread_id: Times
    call: npt.NDArray[np.object_]

    def take(self, index: npt.NDArray[np.intp]) -> Launches:
        """The entries at these positions."""
        return Launches(self.start_ns[index], self.end_ns[index], self.thread_id[index], self.call[index])


def find_launches(run: RunData, ops: pd.DataFrame) -> Launches:
    """The calls behind rows of device_ops, joined by correlation id.

    The emulated device works inside the host's call and gives the thread as its stream, so its own times are the
    call's. An operation without a call (CUDA graphs launch many by one) has its device times and no thread.
    """
    start, end = ops["start_ns"].to_numpy(np.int64), ops["end_ns"].to_numpy(np.int64)
    calls = np.full(len(ops), "", dtype=object)
    if run.manifest.device.kind == "emulated":
        return Launches(start, end, ops["stream_id"].to_numpy(np.int64), calls)
    threads = np.full(len(ops), NONE, dtype=np.int64)
    # The runtime's and the driver's record of one call may share an id: the outer one began first.
    known = run.runtime_calls[run.runtime_calls["correlation_id"] != NONE].sort_values("start_ns", kind="stable")
    known = known.drop_duplicates("correlation_id").sort_values("correlation_id")
    ids = known["correlation_id"].to_numpy()
    if len(ids) == 0:
        return Launches(start, end, threads, calls)
    at = np.minimum(np.searchsorted(ids, ops["correlation_id"].to_numpy()), len(ids) - 1)
    found = ids[at] == ops["correlation_id"].to_numpy()
    return Launches(
        np.where(found, known["start_ns"].to_numpy()[at], start),
        np.where(found, known["end_ns"].to_numpy()[at], end),
        np.where(found, known["thread_id"].to_numpy()[at], threads),
        np.where(found, known["name"].to_numpy()[at], calls),
    )
