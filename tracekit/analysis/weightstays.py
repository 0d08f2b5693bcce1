"""When each weight was on the device: from its copy to there until what dropped it, as the host saw both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.coldwarm import onload_rows
from tracekit.analysis.ids import positions
from tracekit.analysis.intervals import Times
from tracekit.model import NONE, Direction, SpanKind, Timeline
from tracekit.model.text import codes_and_texts, paths_around, take_rows

ALWAYS = int(np.iinfo(np.int64).max)
"""The end of a stay that nothing ended."""


@dataclass(frozen=True)
class Stays:
    """Stays on the device, in no order: `weight` is a row of `weights`, times are ns, one weight's never overlap.

    `weights` has a row for each storage, so that tied parameters count once: its fqn, component and size_bytes.
    """

    weights: pd.DataFrame
    weight: Times
    start_ns: Times
    end_ns: Times


def weight_stays(timeline: Timeline) -> Stays:
    """The stays of the run's weights.

    A weight that an onload brought is there until it is copied back, or until an offload of its module, of one around
    it, of the module whose onload brought it (a group's leader) or of everything. One that came otherwise, such as the
    resident part of partial residency, is there until it is copied back.
    """
    parameters = timeline.run.parameters.drop_duplicates(["fqn", "parameter"])
    names = parameters["fqn"].astype(str) + "." + parameters["parameter"].astype(str)
    tied = parameters["tied_to"].astype(str)
    storage = dict(zip(names, tied.where(tied != "", names), strict=True))
    weights = parameters.loc[(tied == "").to_numpy(), ["fqn", "component", "size_bytes"]].reset_index(drop=True)
    place = {name: row for row, name in enumerate(names[tied == ""])}
    to_device = _Copies.of(timeline.copies, timeline.once(onload_rows), storage, place)
    returns = np.flatnonzero(timeline.copies["is_weight"] & (timeline.copies["direction"] == Direction.D2H))
    back = _Copies.of(timeline.copies, returns, storage, place)
    end = np.minimum(_copied_back(to_device, back), _offloaded(to_device, timeline.spans))
    return _disjoint(weights, to_device.weight, to_device.start_ns, end)


@dataclass(frozen=True)
class _Copies:
    """Copies of weights: which one (a row of the weights), its module (a position in `fqns`), when, in which span."""

    weight: Times
    module: Times
    fqns: list[str]
    start_ns: Times
    end_ns: Times
    span_id: Times

    @classmethod
    def of(cls, copies: pd.DataFrame, rows: Times, storage: dict[str, str], place: dict[str, int]) -> _Copies:
        """The copies at these positions, but for those of weights that are not registered."""
        copies = take_rows(copies, ["fqn", "parameter", "start_ns", "end_ns", "span_id"], rows)
        module, fqns = codes_and_texts(copies["fqn"])
        parameter, parameters = codes_and_texts(copies["parameter"])
        pairs, inverse = np.unique(module * len(parameters) + parameter, return_inverse=True)
        named = [f"{fqns[pair // len(parameters)]}.{parameters[pair % len(parameters)]}" for pair in pairs.tolist()]
        weights = np.array([place.get(storage.get(name, ""), NONE) for name in named], np.int64)
        weight = weights[inverse.reshape(-1)]
        known = weight != NONE
        times = (copies[name].to_numpy()[known] for name in ("start_ns", "end_ns", "span_id"))
        return cls(weight[known], module[known], fqns, *times)


def _copied_back(to_device: _Copies, back: _Copies) -> Times:
    """When each copy's weight was next copied back."""
    end = np.full(len(to_device.weight), ALWAYS, np.int64)
    returns = dict(_groups(back.weight))
    for weight, rows in _groups(to_device.weight) if returns else ():
        if weight in returns:
            end[rows] = _next(np.sort(back.end_ns[returns[weight]]), to_device.start_ns[rows])
    return end


def _offloaded(to_device: _Copies, spans: pd.DataFrame) -> Times:
    """When the next offload ended that drops what each copy brought; `ALWAYS` of copies that no onload made."""
    codes, texts = codes_and_texts(spans["fqn"])
    onloads, offloads = (np.flatnonzero(spans["kind"] == kind) for kind in (SpanKind.ONLOAD, SpanKind.OFFLOAD))
    place = positions(spans["span_id"].to_numpy()[onloads], to_device.span_id)
    # Of a copy in no onload, at -1, the leader is the last of them.
    leaders = [*texts, ""]
    leader = np.append(codes[onloads], len(texts))[place]
    offload_ends = spans["end_ns"].to_numpy()[offloads]
    ends = {texts[code]: np.sort(offload_ends[rows]) for code, rows in _groups(codes[offloads])}
    end = np.full(len(leader), ALWAYS, np.int64)
    # Modules and leaders as one number: there are few pairs of them, each of many copies.
    for pair, rows in _groups(to_device.module * len(leaders) + leader):
        led_by = leaders[pair % len(leaders)]
        dropped_by = {*paths_around(to_device.fqns[pair // len(leaders)]), led_by, ""} if led_by else set()
        for path in dropped_by & ends.keys():
            end[rows] = np.minimum(end[rows], _next(ends[path], to_device.start_ns[rows]))
    return end


def _groups(numbers: Times) -> Iterator[tuple[int, Times]]:
    """Each number that occurs, and its positions."""
    order = np.argsort(numbers, kind="stable")
    if len(order):
        bounds = np.flatnonzero(np.diff(numbers[order])) + 1
        for rows in np.split(order, bounds):
            yield int(numbers[rows[0]]), rows


def _next(moments: Times, after: Times) -> Times:
    """The first of the sorted moments after each, `ALWAYS` where none is left."""
    return np.append(moments, ALWAYS)[np.searchsorted(moments, after, side="right")]


def _disjoint(weights: pd.DataFrame, weight: Times, start: Times, end: Times) -> Stays:
    """A weight that is brought while it is there stays on: its earlier stay reaches to the later one."""
    order = np.lexsort((start, weight))
    weight, start, end = weight[order], start[order], end[order]
    following: npt.NDArray[np.bool_] = weight[1:] == weight[:-1]
    end[:-1][following] = np.minimum(end[:-1], start[1:])[following]
    return Stays(weights, weight, start, end)
