"""Say whether weights paged: when they were first onloaded, at later steps again, at every step, or never.

Only weights that lived in a mapped file when they were copied can page. A step pages when what was missing from memory
is more than a trace of what was probed in it: read-ahead and other programs move single pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracekit.analysis.coldwarm import onload_rows
from tracekit.analysis.hostevidence import HostEvidence
from tracekit.model import NONE, HostMemory, Paging, PagingEvidence, Timeline
from tracekit.model.summary import TRACE
from tracekit.units import format_bytes

_STEP = ["run_index", "step_index"]


def paging_evidence(timeline: Timeline, evidence: HostEvidence) -> PagingEvidence | None:
    """The verdict on paging; None where no weight was copied to the device."""
    onloads = timeline.once(onload_rows)
    mapped = onloads[(timeline.copies["host_memory"] == HostMemory.MMAP).to_numpy()[onloads]]
    if len(onloads) == 0:
        return None
    seen = _Seen.of(timeline.copies, mapped, evidence)
    paging, reason = seen.verdict()
    first = seen.first.dropna(subset="resident")
    weight = int(first["size"].sum())
    return PagingEvidence(
        paging=paging,
        reason=reason,
        mapped_bytes=int(
            timeline.copies["size_bytes"].to_numpy()[mapped][timeline.copies["first"].to_numpy()[mapped]].sum()
        ),
        first_read_bytes=_read(seen.first),
        later_read_bytes=_read(seen.later),
        resident_before=float((first["resident"] * first["size"]).sum() / weight) if weight else None,
        paged_steps=[(int(run), int(step)) for run, step in _paged(_by_step(seen.probed)).index if step != NONE],
    )


@dataclass(frozen=True)
class _Seen:
    """The onloads from mapped files: how many there were, and those of which the host's memory is known.

    Frames have a row an onload: run_index, step_index, first, size, absent (bytes that were not in memory before it),
    read (bytes that came from disk during it; 0 where that is not `told`), resident.
    """

    mapped: int
    sampled: int
    probed: pd.DataFrame
    first: pd.DataFrame
    later: pd.DataFrame

    @classmethod
    def of(
        cls, copies: pd.DataFrame, mapped: np.ndarray[tuple[int], np.dtype[np.int64]], evidence: HostEvidence
    ) -> _Seen:
        """What is known of the copies at these positions."""
        rows = mapped[evidence.known[mapped]]
        size = copies["size_bytes"].to_numpy()
        probed = (
            copies[[*_STEP, "first"]]
            .iloc[rows]
            .assign(
                size=size[rows],
                absent=evidence.absent_bytes(size)[rows],
                read=np.maximum(evidence.read_bytes[rows], 0),
                told=evidence.read_bytes[rows] != NONE,
                resident=evidence.resident_before[rows],
            )
        )
        sampled = int(evidence.sampled[mapped].sum())
        return cls(len(mapped), sampled, probed, probed[probed["first"]], probed[~probed["first"]])

    def verdict(self) -> tuple[Paging, str]:
        """The verdict, and what it rests on in words."""
        if not self.mapped:
            return Paging.NEVER, "no weight lived in a mapped file when it was copied: paging does not apply"
        if self.probed.empty:
            tell = "the kernel does not tell which of their pages were in memory" if self.sampled else "none was probed"
            return Paging.UNKNOWN, f"{self.mapped:,} copies came from mapped files, but {tell}"
        units = self._later_units()
        again = _paged(units)
        steps = units[units.index.get_level_values("step_index") != NONE]
        cold = _missing(self.first) > TRACE * self.first["size"].sum()
        if cold and len(steps) and len(_paged(steps)) == len(steps):
            each = format_bytes(steps["missing"].mean())
            return Paging.ALWAYS, (
                f"{_all_of(len(steps))} found weights missing from memory again ({each} a step): "
                "the page cache does not hold them from one step to the next"
            )
        if len(again):
            missing = format_bytes(again["missing"].sum())
            return Paging.LATER, (
                f"{_named(again)} found {missing} of weights missing from memory again, though others did not: "
                "something evicted them"
            )
        if cold:
            return Paging.COLD_ONLY, self._cold_reason(len(steps))
        return Paging.NEVER, self._trace_reason()

    def _trace_reason(self) -> str:
        if not _missing(self.probed):
            return "every page of the weights that were probed was in memory before its copy"
        rows, when = (self.probed, "copy") if _missing(self.later) else (self.first, "first onload")
        return _missing_words(rows, when)

    def _later_units(self) -> pd.DataFrame:
        """Bytes by step (outside steps: by run) of later onloads; not of a step that is mostly first onloads."""
        units = _by_step(self.later)
        first = _by_step(self.first)["size"].reindex(units.index, fill_value=0)
        return units[units["size"] > first]

    def _cold_reason(self, later_steps: int) -> str:
        missing = _missing_words(self.first, "first onload")
        if self.later.empty:
            return f"{missing}; no later onload was probed"
        return f"{missing}, none at later ones ({later_steps} later steps probed)"


def _read(rows: pd.DataFrame) -> int | None:
    return int(rows["read"].sum()) if rows.empty or rows["told"].any() else None


def _missing(rows: pd.DataFrame) -> int:
    """How much these onloads did not have in memory: by the pages that were absent, or by what came from disk.

    Read-ahead hides the first; where the disk is not counted, there is only the first.
    """
    return int(min(max(rows["absent"].sum(), rows["read"].sum()), rows["size"].sum()))


def _missing_words(rows: pd.DataFrame, when: str) -> str:
    """How much was missing, and where that is more than the absent pages: that it was read ahead."""
    missing, size = _missing(rows), rows["size"].sum()
    ahead = missing - int(rows["absent"].sum())
    of_all = f"{format_bytes(missing)} of {format_bytes(size)} of weights"
    if ahead > TRACE * size:
        return f"{of_all} came from disk at their {when}, {format_bytes(ahead)} of it read ahead of its own copy"
    return f"{of_all} were missing from memory at their {when}"


def _by_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Sums of size, and of what was `missing`, by step."""
    sums = rows.groupby(_STEP)[["size", "absent", "read"]].sum()
    return sums.assign(missing=np.minimum(sums[["absent", "read"]].max(axis=1), sums["size"]))


def _paged(units: pd.DataFrame) -> pd.DataFrame:
    return units[units["missing"] > TRACE * units["size"]]


def _all_of(steps: int) -> str:
    return "the one later step" if steps == 1 else f"each of {steps} later steps"


def _named(units: pd.DataFrame) -> str:
    """Which steps, or how many; of onloads outside steps, the run."""
    run, step = units.index[0]
    if len(units) > 1:
        return f"{len(units)} later steps or phases"
    return f"run {run + 1}, outside its steps," if step == NONE else f"step {step + 1} of run {run + 1}"
