"""Say who held the device's memory at a moment, such as the one at which a run ran out of it."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.analysis.weightstays import weight_stays
from tracekit.model import SpanKind, Timeline
from tracekit.model.memoryholders import MemoryHolder, MemoryHolders
from tracekit.model.text import codes_and_texts

_OUT_OF_MEMORY = re.compile(r"(?:OutOfMemoryError|out of memory)", re.IGNORECASE)
_SIZE = r"([0-9]{1,12}(?:\.[0-9]{1,6})?) (bytes|[KMGT]iB)"
_REQUESTED = re.compile(rf"Tried to allocate {_SIZE}")
_UNALLOCATED = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_MAX_MODULES = 5


def out_of_memory(timeline: Timeline) -> MemoryHolders | None:
    """Who held the device's memory when the run ended for want of it; None of a run that ended otherwise."""
    reason = timeline.run.manifest.incomplete_reason
    # A host that runs out of memory says MemoryError alone.
    if not _OUT_OF_MEMORY.search(reason):
        return None
    spans = timeline.spans
    own = spans["kind"] == SpanKind.TRACEKIT
    # What tracekit's own work calls, such as waiting for the device before its records are read, is no call of the run,
    # nor is a garbage collection.
    spans = spans[~own & (spans["kind"] != SpanKind.GARBAGE) & ~spans["parent_id"].isin(spans.loc[own, "span_id"])]
    if spans.empty:
        return None
    holders = memory_holders(timeline, *_failure(spans))
    # torch's own message knows the very moment; the last sample may be older.
    holders.requested_bytes = _said(_REQUESTED, reason)
    unallocated = _said(_UNALLOCATED, reason)
    if unallocated is not None:
        holders.unallocated_bytes = unallocated
    return holders


def memory_holders(timeline: Timeline, t_ns: int, end_ns: int | None = None, fqn: str = "") -> MemoryHolders:
    """Who held the device's memory at `t_ns`: the weights there by component, and what else was allocated.

    Allocated memory is the last sample until then, or the largest until `end_ns`, if it is given: what is allocated
    between two calls has samples of its own only on CUDA.
    """
    stays = timeline.once(weight_stays)
    there = np.unique(stays.weight[(stays.start_ns <= t_ns) & (t_ns < stays.end_ns)])
    held = stays.weights.iloc[there]
    whole, sums = _by_component(stays.weights), _by_component(held)
    holders = [
        MemoryHolder(
            component=component,
            weight_bytes=size,
            component_bytes=whole[component],
            modules=_modules(held[held["component"] == component]),
        )
        for component, size in sorted(sums.items(), key=lambda item: -item[1])
    ]
    weights = sum(holder.weight_bytes for holder in holders)
    allocated, reserved = (
        _sampled(timeline, f"device_{what}_bytes", t_ns, end_ns) for what in ("allocated", "reserved")
    )
    return MemoryHolders(
        t_ns=t_ns,
        fqn=fqn,
        holders=holders,
        weight_bytes=weights,
        other_bytes=None if allocated is None else max(allocated - weights, 0),
        allocated_bytes=allocated,
        unallocated_bytes=None if allocated is None or reserved is None else max(reserved - allocated, 0),
        cap_bytes=timeline.run.manifest.device.limit_bytes,
        requested_bytes=None,
    )


def _said(what: re.Pattern[str], message: str) -> int | None:
    found = what.search(message)
    return round(float(found[1]) * _UNITS[found[2]]) if found is not None else None


def _failure(spans: pd.DataFrame) -> tuple[int, int, str]:
    """When the last call began, when the run that failed in it ended, and the module in whose forward that was.

    An error ends all spans around it at once, so the innermost of those that end last is where it was raised; what
    began before and ended before was over.
    """
    last_start = int(spans["start_ns"].max())
    open_then = spans[(spans["end_ns"] >= last_start)].sort_values("start_ns", kind="stable")
    named = open_then.loc[open_then["kind"].isin([SpanKind.FORWARD, SpanKind.ONLOAD]), "fqn"]
    return last_start, int(spans["end_ns"].max()), str(named.iloc[-1]) if len(named) else ""


def _by_component(parameters: pd.DataFrame) -> dict[str, int]:
    sums = parameters.groupby("component", observed=True)["size_bytes"].sum()
    return {str(component): int(size) for component, size in sums.items()}


def _modules(held: pd.DataFrame) -> list[tuple[str, int]]:
    """The largest of the modules into which a component's held weights divide first."""
    codes, fqns = codes_and_texts(held["fqn"])
    size: Times = np.bincount(codes, held["size_bytes"].to_numpy(), minlength=len(fqns)).astype(np.int64)
    sizes = {tuple(fqn.split(".")): int(size[code]) for code, fqn in enumerate(fqns) if size[code]}
    depth, most = 1, max(map(len, sizes), default=0)
    while depth < most and len({path[:depth] for path in sizes}) == 1:
        depth += 1
    sums: Counter[tuple[str, ...]] = Counter()
    for path, own in sizes.items():
        sums[path[:depth]] += own
    return [(".".join(path), own) for path, own in sums.most_common(_MAX_MODULES)]


def _sampled(timeline: Timeline, series: str, t_ns: int, end_ns: int | None) -> int | None:
    counters = timeline.run.counters
    rows = counters[(counters["series"] == series) & (counters["t_ns"] <= (t_ns if end_ns is None else end_ns))]
    rows = rows[np.isfinite(rows["value"])].sort_values("t_ns", kind="stable")
    if rows.empty:
        return None
    before = rows.loc[rows["t_ns"] <= t_ns, "value"].tail(1)
    since = rows.loc[rows["t_ns"] > t_ns, "value"]
    return int(max([*before.tolist(), *since.tolist()]))
