"""Join the copies that the hooks saw with the device's own record of them.

A record belongs to the hook's call in which the host asked for it: same thread, same direction, and the same bytes.
What does not agree stays apart, so that a hook that miscounts shows instead of hiding behind the device's figure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.coldwarm import weight_onloads
from tracekit.analysis.hostevidence import HostEvidence
from tracekit.analysis.intervals import Times
from tracekit.analysis.launches import Launches, LaunchFinder
from tracekit.analysis.phases import PHASES, Phases
from tracekit.analysis.spans import SpanTree
from tracekit.model import NONE, Direction, HostMemory, RunData
from tracekit.model.text import codes_and_texts, concat_rows, same_text, says, take_rows, text_column, text_of

_NO_MATCH = -1
_OP_COLUMNS = ["name", "start_ns", "end_ns", "size_bytes", "device_index", "stream_id", "correlation_id"]


def describe_copies(run: RunData, phases: Phases, tree: SpanTree, finder: LaunchFinder) -> pd.DataFrame:
    """The copies table, with rows for copies that only the device saw, and the columns that `Timeline` documents."""
    ops = _crossing_copies(run.device_ops)
    launches = finder.find(ops)
    owner = match_copies(run.copies, ops, launches, run.manifest.clock.alignment_error_ns or 0)
    copies = run.copies.copy(deep=False)
    for name, values in _device_columns(run.copies, ops, owner).items():
        copies[name] = values
    alone = np.flatnonzero(owner == _NO_MATCH)
    if len(alone):
        copies = concat_rows([copies, _device_only(run, ops.iloc[alone], launches.take(alone), tree)])
    start = copies["start_ns"].to_numpy()
    index = phases.runs_at(copies["run_index"].to_numpy(np.int64), start)
    copies["run_index"] = index
    copies["is_weight"] = (copies["fqn"] != "").to_numpy()
    copies["first"] = _first_onloads(copies)
    copies["paged"] = HostEvidence.of(copies, run.host_samples).paged
    copies["phase"] = text_column(phases.phases_at(index, start), PHASES)
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
    is_h2d = says(device_ops["name"], lambda name: "HtoD" in name)
    is_d2h = says(device_ops["name"], lambda name: "DtoH" in name)
    rows = np.flatnonzero((device_ops["op"] == "memcpy").to_numpy() & (is_h2d | is_d2h))
    rows = rows[np.argsort(device_ops["start_ns"].to_numpy()[rows], kind="stable")]
    copies = take_rows(device_ops, _OP_COLUMNS, rows)
    copies["is_h2d"] = is_h2d[rows]
    return copies


def _agreeing(found: Times, op_bytes: Times, copy_bytes: Times) -> npt.NDArray[np.bool_]:
    """Which of a call's records are its copy: all when their bytes add up to it, else the first with its bytes."""
    total = np.zeros(len(copy_bytes), np.int64)
    np.add.at(total, found, op_bytes)
    whole = total[found] == copy_bytes[found]
    single = ~whole & (op_bytes == copy_bytes[found])
    first = np.zeros(len(found), dtype=bool)
    first[np.flatnonzero(single)[np.unique(found[single], return_index=True)[1]]] = True
    return np.asarray(whole | first)


def _device_columns(
    copies: pd.DataFrame, ops: pd.DataFrame, owner: Times
) -> dict[str, npt.NDArray[np.generic] | pd.Categorical]:
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
    # Backwards, so that the first part is the one that stays; the last of all, at -1, is no part.
    part = np.full(count, NONE, dtype=np.int64)
    part[rows[::-1]] = matched[::-1]
    stream, correlation = (np.append(ops[name].to_numpy(), NONE)[part] for name in ("stream_id", "correlation_id"))
    names, texts = codes_and_texts(ops["name"])
    name = text_column(np.append(names, len(texts))[part], [*texts, ""])
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
    names, texts = codes_and_texts(ops["name"])
    pinned = np.array(["Pinned" in text for text in texts])[names]
    calls, call_texts = codes_and_texts(run.runtime_calls["name"])
    operation = np.where(launches.row != NONE, np.append(calls, 0)[launches.row], len(call_texts) + names)
    no_text = same_text("", len(ops))
    kind = run.manifest.device.kind
    return pd.DataFrame(
        {
            "copy_id": np.int64(NONE),
            "span_id": np.where(known, run.spans["span_id"].to_numpy()[span], NONE) if len(run.spans) else NONE,
            "run_index": np.where(known, run.spans["run_index"].to_numpy()[span], NONE) if len(run.spans) else NONE,
            "thread_id": launches.thread_id,
            "direction": text_column(ops["is_h2d"].to_numpy().astype(np.int8), [Direction.D2H, Direction.H2D]),
            "size_bytes": ops["size_bytes"].to_numpy(),
            "start_ns": launches.start_ns,
            "end_ns": launches.end_ns,
            "fqn": no_text,
            "parameter": no_text,
            "operation": text_column(operation, [*call_texts, *texts]),
            "host_memory": text_column(pinned.astype(np.int8), [HostMemory.UNKNOWN, HostMemory.PINNED]),
            "host_address": np.int64(NONE),
            "file_path": no_text,
            "file_offset": np.int64(NONE),
            "device": text_of(f"{kind}:{index}" for index in ops["device_index"]),
            "stream_id": np.int64(NONE),
            "non_blocking": False,
            "device_start_ns": ops["start_ns"].to_numpy(),
            "device_end_ns": ops["end_ns"].to_numpy(),
            "device_stream_id": ops["stream_id"].to_numpy(),
            "correlation_id": ops["correlation_id"].to_numpy(),
            "device_name": text_column(names, texts),
            "duration_ns": (ops["end_ns"] - ops["start_ns"]).to_numpy(),
        },
        index=np.arange(len(ops)),
    )


def _first_onloads(copies: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether a copy is the first onload of its parameter in the process."""
    first = np.zeros(len(copies), dtype=bool)
    onloads = weight_onloads(copies)
    again = copies[["fqn", "parameter"]].iloc[onloads].duplicated().to_numpy()
    first[onloads[~again]] = True
    return first
