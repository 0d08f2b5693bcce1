"""What each weight's copy to the device took in the profiled run, cold and warm, and the spread of its warm steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.coldwarm import onload_rows, onload_weights
from tracekit.analysis.prediction.slowdown import How, Moved
from tracekit.analysis.prediction.tape import ALLOCATING, StepKey, called, in_steps, weight_copy_times
from tracekit.model import HostMemory, Timeline
from tracekit.model.text import take_rows

_SMALL = 64 * 1024
"""Copies below this take what the call takes."""

_COLUMNS = [
    "fqn", "parameter", "host_memory", "size_bytes", "run_index", "step_index", "first", "paged", "non_blocking",
    "start_ns", "end_ns", "device_start_ns", "device_end_ns", "duration_ns",
]  # fmt: skip
"""What is looked at: copying all columns of millions of copies takes longer than all that is done with them."""

Name = tuple[str, str]
"""FQN and parameter."""


@dataclass
class CopyEvidence:
    """Means by weight over the usual warm steps, else over all later copies, in ns; by pageable and page-locked memory.

    `warm` is what a warm copy holds the host up for, device memory apart; `first` what the first one took (its pages
    were mapped, and those of `read` came from disk); `allocation` what getting device memory inside the call took;
    `call_ns` what a copy's call adds to its transfer (a median). `steps` has the sum of warm copies of each warm step,
    by memory, `usual_steps` of the usual ones; `moved` what a later step copies, by FQN.
    """

    warm: dict[bool, dict[Name, float]] = field(default_factory=lambda: {False: {}, True: {}})
    first: dict[Name, float] = field(default_factory=dict)
    read: set[Name] = field(default_factory=set)
    allocation: dict[Name, float] = field(default_factory=dict)
    call_ns: float = 0.0
    steps: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    usual_steps: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    sizes: dict[Name, int] = field(default_factory=dict)
    moved: dict[str, Moved] = field(default_factory=dict)

    @classmethod
    def of(cls, timeline: Timeline, activity: Activity, usual: Collection[StepKey]) -> CopyEvidence:
        """The evidence of a timeline's weight copies to the device; `usual` are the steps that stand for warm ones."""
        evidence = cls()
        copies = take_rows(timeline.copies, _COLUMNS, timeline.once(onload_rows))
        call, transfer = weight_copy_times(copies, activity)
        allocation = called(timeline.run.runtime_calls, *ALLOCATING).within(
            copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()
        )
        took = np.maximum(call - allocation, np.minimum(transfer, call))
        # An asynchronous call returns before its transfer is over.
        ahead = copies["non_blocking"].to_numpy() | (transfer > call)
        took = np.where(ahead, transfer, took)
        first, paged = copies["first"].to_numpy(), copies["paged"].to_numpy()
        each = pd.DataFrame(
            {
                "weight": timeline.once(onload_weights),
                "pinned": (copies["host_memory"] == HostMemory.PINNED).to_numpy(),
                "ahead": ahead,
                "size": copies["size_bytes"].to_numpy(),
                "run": copies["run_index"].to_numpy(),
                "step": copies["step_index"].to_numpy(),
                "usual": in_steps(copies, usual),
                "paged": paged,
                "took": took.astype(np.float64),
                "allocation": allocation.astype(np.float64),
            }
        )
        _, at = np.unique(each["weight"].to_numpy(), return_index=True)
        columns = (copies[name].iloc[at].astype(str) for name in ("fqn", "parameter"))
        names: list[Name] = list(zip(*columns, strict=True))
        evidence.sizes = dict(zip(names, each["size"].iloc[at].tolist(), strict=True))
        firsts = each[first]
        evidence.first = _by_name(names, firsts.groupby("weight")["took"].last())
        evidence.read = {names[weight] for weight in firsts.loc[firsts["paged"], "weight"].tolist()}
        again = each[~first & ~paged]
        evidence.allocation = _by_name(names, _usual_means(again, "allocation"))
        for pinned in (False, True):
            kind = again[again["pinned"] == pinned]
            evidence.warm[pinned] = _by_name(names, _usual_means(kind, "took"))
            evidence.steps[pinned] = _step_sums(kind[kind["step"] > 0])
            evidence.usual_steps[pinned] = _step_sums(kind[kind["usual"]])
        evidence.moved = _moved(each, names, bool(timeline.run.manifest.offload.options.get("low_cpu_mem")))
        evidence.call_ns = _call_ns(each["size"].to_numpy(), call - allocation, np.where(ahead, 0, transfer), ~first)
        return evidence


def _moved(each: pd.DataFrame, names: list[Name], low_cpu_mem: bool) -> dict[str, Moved]:
    """A later step's bytes by FQN, in the way that has most of them; of the only step where there is no later."""
    later = each["step"] > 0
    chosen = each[later] if later.any() else each
    steps = len(chosen[["run", "step"]].drop_duplicates())
    staged = ~chosen["pinned"] | low_cpu_mem
    ways = {How.STAGED: staged, How.WAITED: ~staged & ~chosen["ahead"], How.STREAMED: ~staged & chosen["ahead"]}
    moved: dict[str, dict[How, float]] = {}
    for how, such in ways.items():
        for weight, size in chosen[such].groupby("weight")["size"].sum().items():
            sizes = moved.setdefault(names[int(weight)][0], dict.fromkeys(How, 0.0))  # type: ignore[call-overload]
            sizes[how] += size / steps
    return {fqn: Moved(max(sizes.values()), max(sizes, key=lambda how: sizes[how])) for fqn, sizes in moved.items()}


def _usual_means(copies: pd.DataFrame, column: str) -> pd.Series[float]:
    """The mean by weight over the usual steps; of a weight that none of them copied, over all of its copies."""
    usual = copies[copies["usual"]].groupby("weight")[column].mean()
    return usual.combine_first(copies.groupby("weight")[column].mean())


def _step_sums(copies: pd.DataFrame) -> list[float]:
    return copies.groupby(["run", "step"])["took"].sum().tolist()


def _by_name(names: list[Name], values: pd.Series[float]) -> dict[Name, float]:
    return {names[weight]: float(value) for weight, value in zip(values.index.tolist(), values.tolist(), strict=True)}


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
