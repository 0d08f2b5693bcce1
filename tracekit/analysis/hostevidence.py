"""What host-memory samples say of each copy: read from disk, residency before it, faults, and whether it paged.

A sample belongs to one copy; most copies have none (small weights, weights seen resident lately, memory that is no
mapped file), and what was not sampled is unknown here, not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.model import NONE


@dataclass(frozen=True)
class HostEvidence:
    """One entry a copy, in the order of the copies' rows."""

    sampled: npt.NDArray[np.bool_]
    resident_before: npt.NDArray[np.float64]
    """Share of the source's pages in the page cache just before; NaN: not known."""
    read_bytes: Times
    """What came from disk for this copy; `NONE`: not known.

    The counter is the process's: what was read while the copy's pages were all in memory was read by others, and is 0
    here.
    """
    minor_faults: Times
    """Minor faults of the process during the copy; `NONE`: not known."""

    @classmethod
    def of(cls, copies: pd.DataFrame, host_samples: pd.DataFrame) -> HostEvidence:
        """The samples of these copies; of several for one copy, the last written."""
        row = _positions(copies["copy_id"].to_numpy(), host_samples["copy_id"].to_numpy())
        sampled = row != NONE
        resident = np.append(host_samples["resident_before"].to_numpy(), np.nan)[row]
        read = np.append(host_samples["read_bytes"].to_numpy(), NONE)[row]
        return cls(
            sampled,
            resident,
            np.where((read > 0) & (resident >= 1), 0, read),
            np.append(host_samples["minor_faults"].to_numpy(), NONE)[row],
        )

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether it can be said of the copy that it paged or that it did not."""
        return np.asarray(self.sampled & (~np.isnan(self.resident_before) | (self.read_bytes != NONE)))

    @property
    def paged(self) -> npt.NDArray[np.bool_]:
        """Whether bytes came from disk, or pages were missing from the page cache; False where it is not known."""
        # A comparison with NaN is False: an unknown residency is no evidence.
        return np.asarray((self.read_bytes > 0) | (self.resident_before < 1))

    def absent_bytes(self, size_bytes: Times) -> Times:
        """How much of each copy was not in memory before it: as mincore saw it, else what was read; 0 when unknown."""
        missing = np.nan_to_num(1 - self.resident_before, nan=0.0) * size_bytes
        seen = np.isnan(self.resident_before)
        return np.where(seen, np.clip(self.read_bytes, 0, size_bytes), missing).astype(np.int64)


def _positions(wanted: Times, ids: Times) -> Times:
    """Where each wanted id stands among `ids`, the last place of equal ones; `NONE` where it is not."""
    if len(ids) == 0:
        return np.full(len(wanted), NONE, np.int64)
    order = np.argsort(ids, kind="stable")
    at = np.searchsorted(ids, wanted, side="right", sorter=order) - 1
    row = order[np.maximum(at, 0)]
    return np.where((at >= 0) & (ids[row] == wanted) & (wanted != NONE), row, NONE)
