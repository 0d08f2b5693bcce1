"""When each weight was on the device: from its copy to there until what dropped it, as the host saw both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.model import Direction, SpanKind, Timeline
from tracekit.model.text import codes_and_texts

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
    to_device = _weight_copies(timeline, Direction.H2D, storage, place)
    back = _weight_copies(timeline, Direction.D2H, storage, place)
    end = _copied_back(to_device, back)
    brought = (to_device["leader"] != "").to_numpy()
    end[brought] = np.minimum(end, _offloaded(to_device, timeline.spans))[brought]
    return _disjoint(weights, to_device["weight"].to_numpy(), to_device["start_ns"].to_numpy(), end)


def _weight_copies(
    timeline: Timeline, direction: Direction, storage: dict[str, str], place: dict[str, int]
) -> pd.DataFrame:
    """The copies of weights that way in order of time: weight (a row), fqn, start_ns, and the leader that brought it.

    `leader` is the FQN of the onload around the copy, "" where there is none.
    """
    copies = timeline.copies
    own = copies[copies["is_weight"] & (copies["direction"] == direction)].sort_values("start_ns", kind="stable")
    fqn, fqns = codes_and_texts(own["fqn"])
    parameter, parameters = codes_and_texts(own["parameter"])
    pairs, inverse = np.unique(fqn * len(parameters) + parameter, return_inverse=True)
    named = [f"{fqns[pair // len(parameters)]}.{parameters[pair % len(parameters)]}" for pair in pairs.tolist()]
    rows = np.array([place.get(storage.get(name, ""), -1) for name in named], np.int64)
    onloads = timeline.spans.loc[timeline.spans["kind"] == SpanKind.ONLOAD, ["span_id", "fqn"]]
    leaders = onloads.set_index("span_id")["fqn"].astype(object)
    found = pd.DataFrame(
        {
            "weight": rows[inverse.reshape(-1)] if len(rows) else fqn,
            "fqn": own["fqn"].to_numpy(object),
            "start_ns": own["start_ns"].to_numpy(),
            "end_ns": own["end_ns"].to_numpy(),
            "leader": own["span_id"].map(leaders).fillna("").to_numpy(object),
        }
    )
    return found[found["weight"] >= 0].reset_index(drop=True)


def _copied_back(to_device: pd.DataFrame, back: pd.DataFrame) -> Times:
    """When each copy's weight was next copied back."""
    end = np.full(len(to_device), ALWAYS, np.int64)
    start, returned = to_device["start_ns"].to_numpy(), back["end_ns"].to_numpy()
    returns = back.groupby("weight").indices
    for weight, rows in to_device.groupby("weight").indices.items():
        if weight in returns:
            end[rows] = _next(np.sort(returned[returns[weight]]), start[rows])
    return end


def _offloaded(to_device: pd.DataFrame, spans: pd.DataFrame) -> Times:
    """When the next offload ended that drops what each copy brought."""
    offloads = spans.loc[spans["kind"] == SpanKind.OFFLOAD, ["fqn", "end_ns"]]
    ends = {str(fqn): np.sort(rows.to_numpy()) for fqn, rows in offloads.groupby("fqn", observed=True)["end_ns"]}
    start = to_device["start_ns"].to_numpy()
    end = np.full(len(to_device), ALWAYS, np.int64)
    for brought, rows in to_device.groupby(["fqn", "leader"]).indices.items():
        fqn, leader = map(str, cast("tuple[str, str]", brought))
        for path in {*_paths(fqn), leader, ""} & ends.keys():
            end[rows] = np.minimum(end[rows], _next(ends[path], start[rows]))
    return end


def _paths(fqn: str) -> list[str]:
    """The module's path and those of the modules around it."""
    parts = fqn.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


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
