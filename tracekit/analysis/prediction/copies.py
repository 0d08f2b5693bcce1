"""What each weight's copy to the device took in the profiled run, cold and warm, and the spread of its warm steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt

from tracekit.analysis.activity import Activity
from tracekit.analysis.prediction.tape import ALLOCATING, called, is_onload, weight_copy_times
from tracekit.model import NONE, HostMemory, Timeline

_SMALL = 64 * 1024
"""Copies below this take what the call takes."""

Name = tuple[str, str]
"""FQN and parameter."""


@dataclass
class CopyEvidence:
    """Means by weight, in ns. Pageable and page-locked host memory are kept apart.

    `warm` is what a warm copy holds the host up for, device memory apart; `excess` what the first one took beyond that
    (its pages came from disk, or were mapped); `allocation` what getting device memory inside the call took; `call_ns`
    what a copy's call adds to its transfer (a median). `steps` has the sum of warm copies of each warm step, by memory.
    """

    warm: dict[bool, dict[Name, float]] = field(default_factory=lambda: {False: {}, True: {}})
    first: dict[Name, float] = field(default_factory=dict)
    allocation: dict[Name, float] = field(default_factory=dict)
    call_ns: float = 0.0
    steps: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    sizes: dict[Name, int] = field(default_factory=dict)

    @classmethod
    def of(cls, timeline: Timeline, activity: Activity) -> CopyEvidence:
        """The evidence of a timeline's weight copies to the device."""
        copies, evidence = timeline.copies, cls()
        rows = is_onload(copies)
        copies = copies.iloc[rows]
        call, transfer = weight_copy_times(copies, activity)
        allocation = called(timeline.run.runtime_calls, *ALLOCATING).within(
            copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()
        )
        took = np.maximum(call - allocation, np.minimum(transfer, call))
        # An asynchronous call returns before its transfer is over.
        ahead = copies["non_blocking"].to_numpy() | (transfer > call)
        took = np.where(ahead, transfer, took)
        columns = (copies[name] for name in ("fqn", "parameter"))
        names: list[Name] = [(str(fqn), str(name)) for fqn, name in zip(*columns, strict=True)]
        pinned = (copies["host_memory"] == HostMemory.PINNED).to_numpy()
        size, step = copies["size_bytes"].to_numpy(), copies["step_index"].to_numpy()
        run = copies["run_index"].to_numpy()
        first, paged = copies["first"].to_numpy(), copies["paged"].to_numpy()
        warm: dict[bool, dict[Name, list[float]]] = {False: {}, True: {}}
        sums: dict[bool, dict[tuple[int, int], float]] = {False: {}, True: {}}
        got: dict[Name, list[float]] = {}
        for index, name in enumerate(names):
            evidence.sizes.setdefault(name, int(size[index]))
            if first[index]:
                evidence.first[name] = float(took[index])
            elif not paged[index]:
                kind = bool(pinned[index])
                warm[kind].setdefault(name, []).append(float(took[index]))
                got.setdefault(name, []).append(float(allocation[index]))
                if step[index] != NONE and step[index] > 0:
                    at = (int(run[index]), int(step[index]))
                    sums[kind][at] = sums[kind].get(at, 0.0) + float(took[index])
        evidence.warm = {kind: {name: fmean(times) for name, times in by.items()} for kind, by in warm.items()}
        evidence.allocation = {name: fmean(times) for name, times in got.items()}
        evidence.steps = {kind: list(by.values()) for kind, by in sums.items()}
        evidence.call_ns = _call_ns(size, call - allocation, np.where(ahead, 0, transfer), ~first)
        return evidence


def _call_ns(
    size: npt.NDArray[np.int64],
    call: npt.NDArray[np.int64],
    transfer: npt.NDArray[np.int64],
    again: npt.NDArray[np.bool_],
) -> float:
    """What a call adds to its transfer: the median over small warm copies, else over small ones, else over all."""
    beyond = np.maximum(call - transfer, 0)
    small = size < _SMALL
    for chosen in (small & again, small, np.ones(len(size), np.bool_)):
        if chosen.any():
            return float(np.median(beyond[chosen]))
    return 0.0
