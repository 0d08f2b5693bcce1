"""A process a device: one track a stream for kernels, copies and memsets, with Kineto's names and args."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tracekit.model import NONE, Timeline
from tracekit.model.text import take_rows
from tracekit.render.hostslices import copy_members
from tracekit.render.jsontext import Member, Words
from tracekit.render.nesting import flat_lanes
from tracekit.render.rowtext import Ints
from tracekit.render.selection import Selection
from tracekit.render.slices import Slices, TraceStats, forward_in_time
from tracekit.render.tracks import TrackIds
from tracekit.units import gb_per_s_column

_CATEGORIES = {"kernel": "kernel", "memcpy": "gpu_memcpy", "memset": "gpu_memset"}


@dataclass(frozen=True)
class DeviceTracks:
    """Device slices in their places, and for each its process, the copy that it is and when it was launched.

    `copy_row` is a position in the timeline's copies, or `NONE`; `launch_ns` the start of the runtime call, or `NONE`.
    """

    slices: Slices
    pid: Ints
    copy_row: Ints
    launch_ns: Ints


def device_rows(timeline: Timeline) -> pd.DataFrame:
    """Every device operation, and in `copy_row` the position of the copy that it is, or `NONE`."""
    copies = timeline.copies
    timed = copies.loc[copies["device_start_ns"] != NONE, ["correlation_id", "device_start_ns"]]
    keys = ["correlation_id", "start_ns"]
    by_key = timed.set_axis(keys, axis=1).assign(copy_row=timed.index).drop_duplicates(keys)
    ops = timeline.run.device_ops
    rows = ops.merge(by_key, on=keys, how="left")
    rows["copy_row"] = rows["copy_row"].where((rows["op"] == "memcpy").to_numpy()).fillna(NONE).astype(np.int64)
    in_order = np.lexsort([rows[key].to_numpy() for key in ("start_ns", "device_index")])
    return take_rows(rows, list(rows.columns), in_order)


def stream_names(rows: pd.DataFrame, device_index: int) -> dict[int, str]:
    """A better word for each stream of a device that only copies: such as group offload's, which copies ahead."""
    own = rows[rows["device_index"] == device_index]
    computing = own.loc[own["op"] == "kernel", "stream_id"]
    copying = own.loc[(own["op"] == "memcpy") & ~own["stream_id"].isin(computing), "stream_id"]
    return {int(stream): "copy stream" for stream in copying.unique()} if len(computing) else {}


def device_tracks(
    timeline: Timeline,
    rows: pd.DataFrame,
    selection: Selection,
    ids: Mapping[int, TrackIds],
    launches: tuple[Ints, Ints, Words],
    stats: TraceStats,
) -> DeviceTracks:
    """Lay out the devices' tracks. `launches` are the runtime calls' correlation ids, start times and modules.

    An operation belongs to the step in which it was launched.
    """
    calls, call_start, modules = launches
    by_id = pd.Series(np.arange(len(calls)), index=calls)
    by_id = by_id[~by_id.index.duplicated()].drop(NONE, errors="ignore")
    launch = rows["correlation_id"].map(by_id).fillna(NONE).to_numpy(np.int64)
    # The last entry stands for "no launch": index -1 finds it.
    launch_ns = np.append(call_start, NONE)[launch]
    kept = selection.keeps(np.where(launch >= 0, launch_ns, rows["start_ns"]))
    lasting = selection.lasts(rows["start_ns"].to_numpy(np.int64), rows["end_ns"].to_numpy(np.int64))
    stats.left_out_short += int((kept & ~lasting).sum())
    kept &= lasting
    rows, launch, launch_ns = rows[kept].reset_index(drop=True), launch[kept], launch_ns[kept]
    start = rows["start_ns"].to_numpy(np.int64)
    end = forward_in_time(start, rows["end_ns"].to_numpy(np.int64), stats)
    pid, tid = _places(rows, start, end, ids, stats)
    launched_by = Words(np.append(modules.codes, np.int32(-1))[launch], modules.words)
    # A copy says for which module it is.
    launched_by = launched_by.where((rows["op"] != "memcpy").to_numpy())
    args = [*_members(timeline, rows, end), Member("launched_by", launched_by)]
    categories = Words.of(rows["op"]).map(lambda op: _CATEGORIES.get(op, op))
    slices = Slices(rows.index.to_numpy(np.int64), tid, start, end, categories, Words.of(rows["name"]), args)
    return DeviceTracks(slices, pid, rows["copy_row"].to_numpy(np.int64), launch_ns)


def _places(
    rows: pd.DataFrame, start: Ints, end: Ints, ids: Mapping[int, TrackIds], stats: TraceStats
) -> tuple[Ints, Ints]:
    """The process and track of each operation; two at a time on one stream (CUDA graphs) take a lane each."""
    pid, tid = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    devices, streams = (rows[name].to_numpy(np.int64) for name in ("device_index", "stream_id"))
    for device in pd.unique(devices):
        for stream in sorted(pd.unique(streams[devices == device])):
            group = np.flatnonzero((devices == device) & (streams == stream))
            lanes = flat_lanes(start[group], end[group])
            stats.slices_in_extra_lanes += int((lanes > 0).sum())
            pid[group] = ids[int(device)].pid
            tid[group] = ids[int(device)].threads(streams[group], lanes)
    return pid, tid


def _members(timeline: Timeline, rows: pd.DataFrame, end: Ints) -> Sequence[Member]:
    size = rows["size_bytes"].to_numpy(np.int64)
    copy_row = rows["copy_row"].to_numpy(np.int64)
    # The copies' members for each row, with a last, empty copy for the rows that are none.
    known = np.flatnonzero(copy_row >= 0)
    position = np.full(len(rows), len(known), np.int64)
    position[known] = np.arange(len(known))
    return [
        # Kineto's keys: HTA sees a device event by its stream and correlation, a copy's speed by the last two.
        Member("device", rows["device_index"].to_numpy(np.int64)),
        Member("stream", rows["stream_id"].to_numpy(np.int64)),
        Member("correlation", rows["correlation_id"].to_numpy(np.int64)),
        Member("bytes", size),
        Member("memory bandwidth (GB/s)", gb_per_s_column(size, end - rows["start_ns"].to_numpy(np.int64))),
        *(
            _spread(member, position)
            for member in copy_members(timeline, timeline.copies.iloc[copy_row[known]])
            if member.key != "direction"
        ),
    ]


def _spread(member: Member, position: Ints) -> Member:
    values = member.values
    if isinstance(values, Words):
        return Member(member.key, Words(np.append(values.codes, np.int32(-1))[position], values.words))
    if values.dtype.kind == "f":
        return Member(member.key, np.append(values.astype(np.float64), np.nan)[position])
    return Member(member.key, np.append(values.astype(np.int64), NONE)[position])
