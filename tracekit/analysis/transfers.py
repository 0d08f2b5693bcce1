"""Join the copies that the hooks saw with the device's own record of them.

A record belongs to the hook's call in which the host asked for it: same thread, same direction, and the same bytes.
What does not agree stays apart, so that a hook that miscounts shows instead of hiding behind the device's figure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.intervals import Times
from tracekit.analysis.launches import Launches, find_launches
from tracekit.analysis.phases import Phases
from tracekit.analysis.spans import SpanTree
from tracekit.model import NONE, Direction, HostMemory, RunData

_NO_MATCH = -1


def describe_copies(run: RunData, phases: Phases, tree: SpanTree) -> pd.DataFrame:
    """The copies table, with rows for copies that only the device saw, and the columns that `Timeline` documents."""
    ops = _crossing_copies(run.device_ops)
    launches = find_launches(run, ops)
    owner = match_copies(run.copies, ops, launches, run.manifest.clock.alignment_error_ns or 0)
    joined = run.copies.assign(**_device_columns(run.copies, ops, owner))
    alone = owner == _NO_MATCH
    extra = _device_only(run, ops[alone], launches.take(np.flatnonzero(alone)), tree)
    copies = pd.concat([joined, extra], ignore_index=True) if len(extra) else joined
    start = copies["start_ns"].to_numpy()
    index = phases.runs_at(copies["run_index"].to_numpy(np.int64), start)
    # The frame is ours already: columns are set in place, where assign would copy a million rows again.
    copies["run_index"] = index
    copies["is_weight"] = (copies["fqn"] != "").to_numpy()
    copies["first"] = _first_onloads(copies)
    copies["phase"] = phases.phases_at(index, start)
    copies["step_index"] = phases.steps_at(index, start)
    return copies


def match_copies(copies: pd.DataFrame, ops: pd.DataFrame, launches: Launches, error_ns: int) -> Times:
    """For each device record the position of its hook's copy, or -1. `error_ns`: how far device times may be off.

    First come the records asked for inside a call, then those that the clocks' error may have moved out of theirs.
    """
    start, end = copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()
    thread, is_h2d = copies["thread_id"].to_numpy(), (copies["direction"] == Direction.H2D).to_numpy()
    ops_h2d, ops_bytes = ops["is_h2d"].to_numpy(), ops["size_bytes"].to_numpy()
    owner = np.full(len(ops), _NO_MATCH, dtype=np.int64)
    free = np.ones(len(copies), dtype=bool)
    for slack in (0, error_ns) if error_ns else (0,):
        for own_thread in np.unique(thread):
            rows = np.flatnonzero(free & (thread == own_thread))
            asked = np.flatnonzero((owner == _NO_MATCH) & np.isin(launches.thread_id, (own_thread, NONE)))
            if len(rows) == 0 or len(asked) == 0:
                continue
            rows = rows[np.argsort(start[rows], kind="stable")]
            times = launches.start_ns[asked]
            last = np.searchsorted(start[rows], times + slack, side="right") - 1
            hit = (last >= 0) & (times - slack <= end[rows[last]]) & (is_h2d[rows[last]] == ops_h2d[asked])
            found, asked = rows[last[hit]], asked[hit]
            agreed = _agreeing(found, ops_bytes[asked], copies["size_bytes"].to_numpy())
            owner[asked[agreed]] = found[agreed]
        free[owner[owner >= 0]] = False
    return owner


def _crossing_copies(device_ops: pd.DataFrame) -> pd.DataFrame:
    """The device's copies from and to the host, in order; copies within the device are none of the link's."""
    memcpys = device_ops[device_ops["op"] == "memcpy"]
    # A run has a handful of distinct names: look at each once.
    names = {name: ("HtoD" in name, "DtoH" in name) for name in memcpys["name"].unique()}
    crosses = memcpys["name"].map({name: any(ways) for name, ways in names.items()}).to_numpy(bool)
    is_h2d = memcpys["name"].map({name: h2d for name, (h2d, _) in names.items()}).to_numpy(bool)
    return memcpys.assign(is_h2d=is_h2d)[crosses].sort_values("start_ns", kind="stable", ignore_index=True)


def _agreeing(found: Times, op_bytes: Times, copy_bytes: Times) -> npt.NDArray[np.bool_]:
    """Which of a call's records are its copy: all when their bytes add up to it, else the first with its bytes."""
    total = np.zeros(len(copy_bytes), np.int64)
    np.add.at(total, found, op_bytes)
    whole = total[found] == copy_bytes[found]
    single = ~whole & (op_bytes == copy_bytes[found])
    first = np.zeros(len(found), dtype=bool)
    first[np.flatnonzero(single)[np.unique(found[single], return_index=True)[1]]] = True
    return np.asarray(whole | first)


def _device_columns(copies: pd.DataFrame, ops: pd.DataFrame, owner: Times) -> dict[str, npt.NDArray[np.generic]]:
    """What the device's record says of each copy: of one made in several parts, the extent and the summed duration."""
    count = len(copies)
    matched = np.flatnonzero(owner >= 0)
    rows = owner[matched]
    op_start, op_end = ops["start_ns"].to_numpy()[matched], ops["end_ns"].to_numpy()[matched]
    start, end = np.full(count, np.iinfo(np.int64).max), np.full(count, NONE, dtype=np.int64)
    np.minimum.at(start, rows, op_start)
    np.maximum.at(end, rows, op_end)
    duration = np.zeros(count, np.int64)
    np.add.at(duration, rows, op_end - op_start)
    known = end != NONE
    stream, correlation = np.full((2, count), NONE, dtype=np.int64)
    name = np.full(count, "", dtype=object)
    # Backwards, so that the first part's values are the ones that stay.
    stream[rows[::-1]] = ops["stream_id"].to_numpy()[matched][::-1]
    correlation[rows[::-1]] = ops["correlation_id"].to_numpy()[matched][::-1]
    name[rows[::-1]] = ops["name"].to_numpy()[matched][::-1]
    return {
        "device_start_ns": np.where(known, start, NONE),
        "device_end_ns": end,
        "device_stream_id": stream,
        "correlation_id": correlation,
        "device_name": name,
        "duration_ns": np.where(known, duration, (copies["end_ns"] - copies["start_ns"]).to_numpy()),
    }


def _device_only(run: RunData, ops: pd.DataFrame, launches: Launches, tree: SpanTree) -> pd.DataFrame:
    """Rows for device records that no hook saw."""
    span = tree.innermost(launches.start_ns, launches.thread_id)
    known = span >= 0
    pinned = ops["name"].str.contains("Pinned").to_numpy(bool)
    kind = run.manifest.device.kind
    return pd.DataFrame(
        {
            "copy_id": np.int64(NONE),
            "span_id": np.where(known, run.spans["span_id"].to_numpy()[span], NONE) if len(run.spans) else NONE,
            "run_index": np.where(known, run.spans["run_index"].to_numpy()[span], NONE) if len(run.spans) else NONE,
            "thread_id": launches.thread_id,
            "direction": np.where(ops["is_h2d"], str(Direction.H2D), str(Direction.D2H)).astype(object),
            "size_bytes": ops["size_bytes"].to_numpy(),
            "start_ns": launches.start_ns,
            "end_ns": launches.end_ns,
            "fqn": "",
            "parameter": "",
            "operation": np.where(launches.call == "", ops["name"], launches.call).astype(object),
            "host_memory": np.where(pinned, str(HostMemory.PINNED), str(HostMemory.UNKNOWN)).astype(object),
            "host_address": np.int64(NONE),
            "file_path": "",
            "file_offset": np.int64(NONE),
            "device": [f"{kind}:{index}" for index in ops["device_index"]],
            "stream_id": np.int64(NONE),
            "non_blocking": False,
            "device_start_ns": ops["start_ns"].to_numpy(),
            "device_end_ns": ops["end_ns"].to_numpy(),
            "device_stream_id": ops["stream_id"].to_numpy(),
            "correlation_id": ops["correlation_id"].to_numpy(),
            "device_name": ops["name"].to_numpy(),
            "duration_ns": (ops["end_ns"] - ops["start_ns"]).to_numpy(),
        },
        index=np.arange(len(ops)),
    )


def _first_onloads(copies: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether a copy is the first onload of its parameter in the process."""
    first = np.zeros(len(copies), dtype=bool)
    onloads = copies.loc[
        (copies["fqn"] != "") & (copies["direction"] == Direction.H2D), ["fqn", "parameter", "start_ns"]
    ]
    earliest = onloads.sort_values("start_ns", kind="stable").drop_duplicates(["fqn", "parameter"])
    first[earliest.index] = True
    return first
