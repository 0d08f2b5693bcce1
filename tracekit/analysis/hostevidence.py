"""What host-memory samples say of each copy: read from disk, residency before it, faults, and whether it paged.

A sample belongs to one copy. Small weights and page-locked memory have none, and what was not sampled is unknown here,
not zero. The bytes read are the process's: they are taken for a copy's own where it came from a mapped file, but for a
trace of them beside pages that were all in memory, or whose residency is not known: that is another thread's, since the
kernel reads files ahead in large blocks. Nor are they where no weight had a page missing and all that was read together
is a trace of what was probed: a library that the process loads meanwhile is on that disk, too. Reading ahead also means
that bytes show at the copy that asked for them, while later copies are the ones that find, or wait for, what they
brought: sums over a step are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.ids import positions
from tracekit.analysis.intervals import Times
from tracekit.model import NONE, HostMemory, Timeline
from tracekit.model.summary import TRACE


@dataclass(frozen=True)
class HostEvidence:
    """One entry a copy, in the order of the copies' rows."""

    sampled: npt.NDArray[np.bool_]
    resident_before: npt.NDArray[np.float64]
    """Share of the source's pages in the page cache just before; NaN: not known."""
    read_bytes: Times
    """What came from disk for this copy; `NONE`: not known."""
    minor_faults: Times
    """Minor faults of the process during the copy; `NONE`: not known."""

    @classmethod
    def of(cls, copies: pd.DataFrame, host_samples: pd.DataFrame) -> HostEvidence:
        """The samples of these copies; of several for one copy, the last written."""
        row = positions(host_samples["copy_id"].to_numpy(), copies["copy_id"].to_numpy())
        resident = np.append(host_samples["resident_before"].to_numpy(), np.nan)[row]
        read = np.append(host_samples["read_bytes"].to_numpy(), NONE)[row]
        mapped = (copies["host_memory"] == HostMemory.MMAP).to_numpy()
        size = copies["size_bytes"].to_numpy()
        # A comparison with NaN is False: an unknown residency is no evidence of missing pages.
        missing = mapped & (resident < 1)
        own = missing | (mapped & (read > TRACE * size))
        if not missing.any() and read[own].sum() <= TRACE * size[mapped & (row != NONE)].sum():
            own = missing
        return cls(
            row != NONE,
            np.where(mapped, resident, np.nan),
            np.where((read > 0) & ~own, 0, read),
            np.append(host_samples["minor_faults"].to_numpy(), NONE)[row],
        )

    @classmethod
    def of_timeline(cls, timeline: Timeline) -> HostEvidence:
        """The samples of a timeline's copies: to be asked for by `Timeline.once`."""
        return cls.of(timeline.copies, timeline.run.host_samples)

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whether it can be said of the copy that it paged or that it did not."""
        return np.asarray(self.sampled & (~np.isnan(self.resident_before) | (self.read_bytes != NONE)))

    @property
    def paged(self) -> npt.NDArray[np.bool_]:
        """Whether bytes came from disk, or pages were missing from the page cache; False where it is not known."""
        return np.asarray((self.read_bytes > 0) | (self.resident_before < 1))

    def absent_bytes(self, size_bytes: Times) -> Times:
        """How much of each copy was not in memory before it; 0 where that is not known."""
        # A share outside 0 to 1 comes from no writer of ours.
        absent = np.clip(np.nan_to_num(1 - self.resident_before, nan=0.0), 0.0, 1.0)
        return np.asarray(absent * size_bytes).astype(np.int64)
