"""Divide stretches of time into exclusive causes that add up to them exactly.

Each moment has one cause, the first of these that holds:

1. a kernel runs: compute;
2. a copy is under way: disk reads, page mapping, pageable staging and link, in the proportions of that copy
   (`tracekit.analysis.copycosts`); of several at once, the one that began first;
3. what the run's main thread is in (`tracekit.analysis.hosttime`): tracekit's own work, allocation, first use, waiting,
   garbage collection, offload hooks, model code;
4. unattributed.

Model code that the process's first step has beyond the median of its run's later steps is first use, too: the modules
and their code are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.copycosts import CopyCosts
from tracekit.analysis.hosttime import host_time
from tracekit.analysis.intervals import Coverage, Times
from tracekit.model import Cause, CauseRow, Evidence, PhaseCauseRow, Timeline

DEVICE_RECORDS = ("cupti", "emulated")
"""The sources of device records that have kernels: without them, nothing tells computing from waiting."""

_RULES = {
    Cause.DISK: "time of paged copies beyond a warm copy's, less page mapping",
    Cause.MAPPING: "time of first copies from mapped files beyond a warm copy's",
    Cause.STAGING: "time of pageable copies beyond the pinned ceiling of their size",
    Cause.LINK: "what the bytes take at the pinned ceiling of their size",
    Cause.FIRST_USE: "kernels and libraries loaded, slow first launches, model code beyond later steps'",
}
_NO_CEILING = "no pinned ceiling was measured: staging, if there is any, is in it"
_EMULATED = "what the copies take when warm: the emulated device's link is a memcpy"


class CauseFinder:
    """The causes of any windows of a timeline."""

    def __init__(self, timeline: Timeline, costs: CopyCosts, *, pinned_ceiling: bool) -> None:
        run = timeline.run
        self._timeline = timeline
        ops = run.device_ops
        self._kernels = timeline.once(Activity.of).kernels
        self._known = run.manifest.activity in DEVICE_RECORDS
        self._record = np.sort(ops["start_ns"].to_numpy())
        self._copies = _ExclusiveCopies.of(timeline.copies, costs, self._kernels)
        self._busy = self._kernels | self._copies.coverage
        self._covered = list(self._growing(host_time(run)))
        self._link_rule = _RULES[Cause.LINK] if pinned_ceiling else _NO_CEILING
        if run.manifest.device.kind == "emulated":
            self._link_rule = _EMULATED

    def _growing(self, host: Iterable[tuple[Cause, Coverage]]) -> Iterator[tuple[Cause, Coverage]]:
        """With each cause, what it and everything before it cover."""
        covered = self._busy
        for cause, coverage in host:
            covered = covered | coverage
            yield cause, covered

    def step_rows(self) -> list[CauseRow]:
        """The causes of every step of which the device's record is there."""
        steps = self._timeline.steps
        starts, ends = steps["start_ns"].to_numpy(), steps["end_ns"].to_numpy()
        times = self.times(starts, ends)[self._recorded(starts, ends)]
        keys = steps.loc[times.index, ["run_index", "step_index"]]
        _move_first_use(times, keys, starts[times.index])
        return [
            CauseRow(run_index=run, step_index=step, cause=cause, duration_ns=ns, evidence=evidence, reason=reason)
            for run, step, row in zip(*_lists(keys), times.to_dict("records"), strict=True)
            for cause, ns, evidence, reason in self._shares(row)
        ]

    def phase_rows(self, windows: pd.DataFrame) -> list[PhaseCauseRow]:
        """The causes of phases; `windows` has run_index, phase, start_ns, end_ns, disjoint within a phase."""
        starts, ends = windows["start_ns"].to_numpy(), windows["end_ns"].to_numpy()
        times = self.times(starts, ends).assign(recorded=self._recorded(starts, ends))
        keys = [windows["run_index"].to_numpy(), windows["phase"].to_numpy()]
        sums = times.groupby(keys, sort=False, observed=True).sum()
        return [
            PhaseCauseRow(
                run_index=run, phase=str(phase), cause=cause, duration_ns=ns, evidence=evidence, reason=reason
            )
            for (run, phase), row in zip(sums.index, sums.to_dict("records"), strict=True)
            if row["recorded"]
            for cause, ns, evidence, reason in self._shares(row)
        ]

    def times(self, starts: Times, ends: Times) -> pd.DataFrame:
        """One row a window ``[start, end)``, one column a cause, ns; a row's causes add up to the window's length.

        Column `divided` is how much of the copying was divided by a rule.
        """
        columns: dict[str, Times] = {Cause.COMPUTE: self._kernels.within(starts, ends)}
        columns |= self._copies.within(starts, ends)
        before = self._busy.within(starts, ends)
        for cause, covered in self._covered:
            until = covered.within(starts, ends)
            columns[cause], before = until - before, until
        columns[Cause.UNATTRIBUTED] = np.maximum(ends - starts, 0) - before
        return pd.DataFrame({str(name): columns[name] for name in (*Cause, "divided")})

    def _recorded(self, starts: Times, ends: Times) -> Times:
        """Whether the device did something in each window that was recorded: if not, its record is missing."""
        first, last = (np.searchsorted(self._record, times) for times in (starts, ends))
        return np.asarray((last > first) & self._known)

    def _shares(self, row: Mapping[Any, Any]) -> Iterator[tuple[Cause, int, Evidence, str]]:
        for cause in Cause:
            if row[cause] or cause is Cause.UNATTRIBUTED:
                inferred = cause in _RULES and (cause is not Cause.LINK or row["divided"] > 0)
                rule = self._link_rule if cause is Cause.LINK else _RULES.get(cause, "")
                yield cause, int(row[cause]), *((Evidence.INFERRED, rule) if inferred else (Evidence.MEASURED, ""))


@dataclass(frozen=True)
class _ExclusiveCopies:
    """Copies cut so that they do not overlap, with what each piece is made of."""

    coverage: Coverage
    kernels: Coverage
    starts: Times
    ends: Times
    parts: Mapping[str, npt.NDArray[np.float64]]
    """Shares of each piece's copy: by cause, and whether it was `divided`."""

    @classmethod
    def of(cls, copies: pd.DataFrame, costs: CopyCosts, kernels: Coverage) -> _ExclusiveCopies:
        """The pieces in order. Where several copies are under way, the time is that of the one that began first."""
        keys = (copies["copy_id"].to_numpy(), copies["size_bytes"].to_numpy(), costs.ends, costs.starts)
        order = np.lexsort(keys)
        order = order[costs.ends[order] > costs.starts[order]]
        starts, ends = costs.starts[order], costs.ends[order]
        took = (ends - starts).astype(np.float64)
        parts = {Cause.DISK: costs.disk, Cause.MAPPING: costs.mapping, Cause.STAGING: costs.staging}
        shares = {str(cause): part[order] / took for cause, part in parts.items()}
        shares["divided"] = costs.divided[order].astype(np.float64)
        reach = np.maximum.accumulate(ends)
        begins = starts.copy()
        begins[1:] = np.maximum(starts[1:], reach[:-1])
        left = np.flatnonzero(begins < ends)
        shares = {name: share[left] for name, share in shares.items()}
        return cls(Coverage.of(starts, ends), kernels, begins[left], ends[left], shares)

    def within(self, starts: Times, ends: Times) -> dict[str, Times]:
        """The copies' time with no kernel beside it in each window, by cause, and how much was `divided`."""
        first = np.searchsorted(self.ends, starts, side="right")
        count = np.maximum(np.searchsorted(self.starts, ends, side="left") - first, 0)
        window = np.repeat(np.arange(len(starts)), count)
        piece = np.arange(len(window)) + np.repeat(first - np.cumsum(count) + count, count)
        begin, end = np.maximum(self.starts[piece], starts[window]), np.minimum(self.ends[piece], ends[window])
        exposed = end - begin - self.kernels.within(begin, end)
        sums = {}
        for name, share in self.parts.items():
            # Whole nanoseconds a piece: sums of them do not depend on the order of rows.
            sums[name] = _sums(window, np.floor(exposed * share[piece]).astype(np.int64), len(starts))
        link = _sums(window, exposed, len(starts)) - sum(
            sums[cause] for cause in (Cause.DISK, Cause.MAPPING, Cause.STAGING)
        )
        return sums | {str(Cause.LINK): link}


def _sums(group: Times, values: Times, count: int) -> Times:
    total = np.zeros(count, np.int64)
    np.add.at(total, group, values)
    return total


def _move_first_use(times: pd.DataFrame, keys: pd.DataFrame, starts: Times) -> None:
    """Give the first step's model code beyond its run's later steps' median to first use, in place."""
    if times.empty:
        return
    first = times.index[int(np.argmin(starts))]
    later = times.loc[(keys["run_index"] == keys.loc[first, "run_index"]) & (times.index != first), Cause.MODEL]
    if later.empty:
        return
    beyond = max(0, int(times.loc[first, Cause.MODEL]) - round(median(later)))
    times.loc[first, Cause.MODEL] -= beyond
    times.loc[first, Cause.FIRST_USE] += beyond


def _lists(keys: pd.DataFrame) -> tuple[list[int], list[int]]:
    return keys["run_index"].tolist(), keys["step_index"].tolist()
