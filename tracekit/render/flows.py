"""Arrows from each weight copy to the forward that waited for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tracekit.model import NONE, Direction, SpanKind, Timeline
from tracekit.model.text import codes_and_texts, paths_around, row_numbers, says
from tracekit.render.chromewriter import FlowPoints
from tracekit.render.devicetracks import DeviceTracks
from tracekit.render.hosttracks import HostTracks
from tracekit.render.slices import TraceStats

FLOW_NAME = "weights"
"""Category and name of the arrows."""


def weight_flows(
    timeline: Timeline, host: HostTracks, device: DeviceTracks, host_pid: int, stats: TraceStats
) -> tuple[FlowPoints, FlowPoints]:
    """Both ends of every arrow; copies that have none are counted in `stats`, unless their forward was left out.

    The forward that waited is the first one of the weight's module (or of the closest module around it that runs)
    to end after the copy was called for. The arrow leaves at the copy's end. It arrives in the forward on the host
    or, when the host ran ahead and left that forward before the copy was done, in the first kernel that it launched.
    """
    copies = _weight_copies(timeline, host, device, host_pid)
    waits = _match(copies, _forwards(timeline, host, copies["fqn"]), stats)
    waits = waits[waits["open_ns"] != NONE]
    # An arrow binds to the innermost slice at its moment: the forward's own first moment, not a child's.
    waits["arrive_ns"] = np.maximum(waits["open_ns"], waits["leave_ns"])
    waits["arrive_pid"], waits["arrive_tid"] = host_pid, waits["forward_tid"]
    on_host = waits["arrive_ns"] < waits["forward_end_ns"]
    late = _to_first_kernel(waits[~on_host], device)
    stats.flows_left_out = int((~on_host).sum()) - len(late)
    waits = pd.concat([waits[on_host], late])
    stats.flows = len(waits)
    leave, arrive = (
        FlowPoints(*(waits[name].to_numpy(np.int64) for name in names))
        for names in (("leave_pid", "leave_tid", "leave_ns"), ("arrive_pid", "arrive_tid", "arrive_ns"))
    )
    return leave, arrive


def _weight_copies(timeline: Timeline, host: HostTracks, device: DeviceTracks, host_pid: int) -> pd.DataFrame:
    """The weight copies in the trace: where their arrow leaves (their device's slice, else the host's), and when."""
    copies = timeline.copies
    copies = copies.loc[(copies["direction"] == Direction.H2D) & copies["is_weight"], ["fqn", "parameter", "start_ns"]]
    copies = copies.sort_values("start_ns", kind="stable")
    by_weight = copies.groupby(row_numbers(copies[["fqn", "parameter"]]))["start_ns"]
    copies["again_ns"] = by_weight.shift(-1, fill_value=np.iinfo(np.int64).max)
    on_device = pd.DataFrame(
        {"leave_pid": device.pid, "leave_tid": device.slices.track, "leave_ns": device.slices.end_ns - 1},
        index=device.copy_row,
    )
    on_device = on_device[(device.copy_row != NONE) & (device.slices.end_ns > device.slices.start_ns)]
    on_host = pd.DataFrame(
        {"leave_pid": host_pid, "leave_tid": host.copies.track, "leave_ns": host.copies_open_ns}, index=host.copies.row
    )
    on_host = on_host[(host.copies_open_ns != NONE) & ~on_host.index.isin(on_device.index)]
    leave = pd.concat([on_device, on_host])
    leave = leave[~leave.index.duplicated()]
    return copies.join(leave, how="inner")


def _forwards(timeline: Timeline, host: HostTracks, copied: pd.Series[str]) -> pd.DataFrame:
    """The forwards that an arrow can reach, and those that were left out of the trace (their `open_ns` is `NONE`).

    Those alone that may have waited for a copy: of the `copied` modules and of the modules around them.
    """
    spans = timeline.spans
    waiting = {"", *(path for fqn in copied.unique() for path in paths_around(fqn))}
    places = pd.DataFrame(
        {
            "forward_tid": host.spans.track,
            "forward_start_ns": host.spans.start_ns,
            "forward_end_ns": host.spans.end_ns,
            "open_ns": host.spans_open_ns,
        },
        index=host.spans.row,
    )
    is_forward = (spans["kind"] == SpanKind.FORWARD).to_numpy() & says(spans["fqn"], waiting.__contains__)
    is_there = np.zeros(len(spans), np.bool_)
    is_there[places.index] = True
    left_out = spans.loc[is_forward & ~is_there, ["start_ns", "end_ns"]]
    left_out = pd.DataFrame(
        {
            "forward_tid": NONE,
            "forward_start_ns": left_out["start_ns"],
            "forward_end_ns": left_out["end_ns"],
            "open_ns": NONE,
        }
    )
    reachable = places[is_forward[places.index] & (places["open_ns"] != NONE).to_numpy()]
    forwards: pd.DataFrame = pd.concat([reachable, left_out]).astype(np.int64)
    forwards.insert(0, "fqn", spans["fqn"].array[forwards.index])
    return forwards.sort_values("forward_end_ns", kind="stable", ignore_index=True)


def _match(copies: pd.DataFrame, forwards: pd.DataFrame, stats: TraceStats) -> pd.DataFrame:
    """Copies with the forward that waited; those without one are counted and left out."""
    codes, fqns = codes_and_texts(forwards["fqn"])
    running = {fqns[code]: int(code) for code in np.unique(codes)}
    copied, texts = codes_and_texts(copies["fqn"])
    module = np.array([_module_that_runs(fqn, running) for fqn in texts], np.int64)[copied]
    copies = copies.assign(module=module).sort_values("start_ns", kind="stable")
    # Positions, not times, go through the join: it turns whole columns into floats where one row has no partner.
    places = pd.DataFrame(
        {"module": codes, "forward_end_ns": forwards["forward_end_ns"], "forward": np.arange(len(forwards))}
    )
    joined = pd.merge_asof(
        copies, places, left_on="start_ns", right_on="forward_end_ns", by="module", direction="forward"
    )
    place = joined["forward"].fillna(NONE).to_numpy(np.int64)
    found = forwards.iloc[place[place >= 0]].drop(columns="fqn").reset_index(drop=True)
    waits = pd.concat([joined.loc[place >= 0, copies.columns].reset_index(drop=True), found], axis=1)
    # Copied again before that forward: this copy was for nothing.
    runs = waits["again_ns"] > waits["forward_start_ns"]
    stats.copies_for_nothing = len(joined) - int(runs.sum())
    return waits[runs].reset_index(drop=True)


def _module_that_runs(fqn: str, running: Mapping[str, int]) -> int:
    """The number of the module, else of the closest one around it that has forwards; `NONE` when none has.

    Blocks may own their leaves' parameters.
    """
    while fqn and fqn not in running:
        fqn = fqn.rpartition(".")[0]
    return running.get(fqn, NONE)


def _to_first_kernel(waits: pd.DataFrame, device: DeviceTracks) -> pd.DataFrame:
    """The waits that end in a kernel on the device, with their arrow's end there."""
    slices = device.slices
    is_kernel = np.array([word == "kernel" for word in slices.categories.words], np.bool_)[slices.categories.codes]
    # Strictly inside a kernel: at its very end, the next one would take the arrow.
    kernels = np.flatnonzero(is_kernel & (device.launch_ns != NONE) & (slices.end_ns - slices.start_ns >= 2))
    if not len(kernels) or not len(waits):
        return waits.iloc[:0]
    kernels = kernels[np.argsort(device.launch_ns[kernels], kind="stable")]
    launch_ns, start_ns = device.launch_ns[kernels], slices.start_ns[kernels]
    began, ended, leave = (
        waits[name].to_numpy(np.int64) for name in ("forward_start_ns", "forward_end_ns", "leave_ns")
    )
    launched_in_it = np.searchsorted(launch_ns, began)
    late_enough = np.searchsorted(np.maximum.accumulate(start_ns), leave)
    first = np.minimum(np.maximum(launched_in_it, late_enough), len(kernels) - 1)
    found = (launch_ns[first] >= began) & (launch_ns[first] <= ended) & (start_ns[first] >= leave)
    kernel = kernels[first[found]]
    return waits[found].assign(
        arrive_pid=device.pid[kernel], arrive_tid=slices.track[kernel], arrive_ns=slices.start_ns[kernel] + 1
    )
