"""The view of which modules' weights were on the device when: shares over time, and the most that was there at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracekit.analysis.intervals import Times
from tracekit.analysis.weightstays import ALWAYS, Stays, weight_stays
from tracekit.model import SpanKind, Timeline
from tracekit.model.report import Matrix, Residency, ResidencyWindow, StepParts
from tracekit.units import format_memory

MAX_ROWS = 120
SLICES = 120
"""More than a phone's screen can tell apart, and few enough for an SVG of all rows."""
_ALL = 0.995
"""This share of the weights counts as all of them: small buffers come and go in every mode."""
_SOME = 0.01

Values = npt.NDArray[np.float64]


def device_residency(timeline: Timeline, first: StepParts | None, warm: StepParts | None) -> Residency | None:
    """The view of the first run, with step 1 and the step that stands for the warm ones; None without a weight there.

    Times are the host's: an asynchronous copy counts from its launch.
    """
    windows = _windows(timeline, first, warm)
    stays = timeline.once(weight_stays)
    if not windows or not len(stays.weight):
        return None
    blocks, each, block = _blocks(timeline, stays)
    sizes = np.zeros(len(blocks) + 1)
    np.add.at(sizes, block, stays.weights["size_bytes"].to_numpy())
    sizes = sizes[: len(blocks)]
    device = timeline.run.manifest.device
    return Residency(
        finding=_finding(timeline, stays),
        modules=blocks,
        sizes_bytes=sizes.astype(np.int64).tolist(),
        stay_ns=_mean_stays(stays, block, len(blocks), *windows[0][2:]),
        blocks_a_row=each,
        windows=[_window(timeline, stays, block, sizes, *window) for window in windows],
        limit_bytes=device.limit_bytes,
        is_cap=device.cap_bytes is not None,
    )


def _windows(timeline: Timeline, first: StepParts | None, warm: StepParts | None) -> list[tuple[str, str, int, int]]:
    """Key, title, start and end of each stretch that is shown."""
    found = []
    if len(timeline.runs):
        start, end = (int(timeline.runs.iloc[0][name]) for name in ("start_ns", "end_ns"))
        found.append(("run", "first run" if len(timeline.runs) > 1 else "whole run", start, end))
    elif first is not None:
        found.append(("run", "all steps", first.start_ns, int(timeline.steps["end_ns"].max())))
    if first is not None:
        found.append(("first", "step 1", first.start_ns, first.end_ns))
    if first is not None and warm is not None and warm is not first:
        found.append(("warm", f"warm step ({warm.label})", warm.start_ns, warm.end_ns))
    return [window for window in found if window[3] > window[2]]


def _blocks(timeline: Timeline, stays: Stays) -> tuple[list[str], int, Times]:
    """The rows' names in the order in which they run, how many blocks each holds, and each weight's row.

    Blocks of which no weight was ever on the device have no row: their weights' is the one after the last.
    """
    fqns = stays.weights["fqn"].astype(str).tolist()
    first = np.full(len(fqns), ALWAYS)
    np.minimum.at(first, stays.weight, stays.start_ns)
    came: dict[str, int] = {}
    for fqn, start in zip(fqns, first.tolist(), strict=True):
        if start != ALWAYS:
            name = block_of(fqn)
            came[name] = min(start, came.get(name, start))
    ran = _first_runs(timeline)
    ordered = sorted(came, key=lambda name: (ran.get(name, came[name]), came[name]))
    each = -(-len(ordered) // MAX_ROWS)
    row = {name: index // each for index, name in enumerate(ordered)}
    groups = [ordered[start : start + each] for start in range(0, len(ordered), each)]
    names = [group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in groups]
    return names, each, np.array([row.get(block_of(fqn), len(names)) for fqn in fqns], np.int64)


def block_of(fqn: str) -> str:
    """The path down to its first number, as in ``transformer.blocks.12``; without one its first two parts."""
    path = fqn.split(".")
    number = next((at for at, part in enumerate(path) if part.isdigit()), 1)
    return ".".join(path[: number + 1])


def _first_runs(timeline: Timeline) -> dict[str, int]:
    """When a forward of each block, or of a module in it, first began."""
    is_forward = timeline.spans["kind"] == SpanKind.FORWARD
    forwards = timeline.spans.loc[is_forward, ["fqn", "start_ns"]]
    first = forwards.groupby("fqn", observed=True)["start_ns"].min()
    ran: dict[str, int] = {}
    for fqn, start in first.items():
        name = block_of(str(fqn))
        ran[name] = min(int(start), ran.get(name, int(start)))
    return ran


def _window(
    timeline: Timeline, stays: Stays, block: Times, sizes: Values, key: str, title: str, start: int, end: int
) -> ResidencyWindow:
    size = stays.weights["size_bytes"].to_numpy(np.float64)[stays.weight]
    come, go = np.clip(stays.start_ns, start, end), np.clip(stays.end_ns, start, end)
    inside = go > come
    rows, size, come, go = block[stays.weight][inside], size[inside], come[inside], go[inside]
    edges = np.linspace(start, end, SLICES + 1)
    held = _byte_time(rows, size, come, edges, len(sizes)) - _byte_time(rows, size, go, edges, len(sizes))
    share = np.clip(held / (sizes[:, None] * np.diff(edges)), 0, 1)
    steps = timeline.steps["end_ns"].to_numpy()
    return ResidencyWindow(
        key=key,
        title=title,
        start_ns=start,
        end_ns=end,
        share=Matrix(rows=len(sizes), columns=SLICES, values=share.astype("<f4").tobytes()),
        weight_bytes=_largest(size, come, go, edges),
        marks_ns=[int(mark) for mark in steps[(steps > start) & (steps < end)]],
    )


def _byte_time(rows: Times, size: Values, since: Times, edges: Values, count: int) -> Values:
    """Bytes times ns in each row and slice, as if each weight stayed from its moment on."""
    width = edges[1] - edges[0]
    at = np.clip(((since - edges[0]) / width).astype(np.int64), 0, SLICES - 1)
    begun, later = np.zeros((count, SLICES)), np.zeros((count, SLICES + 1))
    np.add.at(begun, (rows, at), size * (edges[at + 1] - since))
    np.add.at(later, (rows, at + 1), size)
    total: Values = begun + np.cumsum(later, axis=1)[:, :SLICES] * width
    return total


def _largest(size: Values, come: Times, go: Times, edges: Values) -> list[int]:
    """The most bytes that were there at once in each slice."""
    # At one moment what goes goes first; then the next slice begins, with what is there still; then comes what comes.
    moments = np.concatenate([go, edges[:-1], come])
    changes = np.concatenate([-size, np.zeros(SLICES), size])
    order = np.argsort(moments, kind="stable")
    levels = np.cumsum(changes[order])
    begins = np.flatnonzero((order >= len(go)) & (order < len(go) + SLICES))
    return [round(level) for level in np.maximum.reduceat(levels, begins)]


def _mean_stays(stays: Stays, block: Times, count: int, start: int, end: int) -> list[int]:
    """How long a byte of each row that was in the window stayed there, on average."""
    size = stays.weights["size_bytes"].to_numpy(np.float64)[stays.weight]
    length = np.clip(stays.end_ns, start, end) - np.clip(stays.start_ns, start, end)
    rows, size = block[stays.weight], np.where(length > 0, size, 0)
    held, came = (np.bincount(rows, values, minlength=count) for values in (size * length, size))
    return [round(stay) for stay in (held / np.maximum(came, 1)).tolist()]


def _finding(timeline: Timeline, stays: Stays) -> str:
    """Of the denoisers' weights: how much stays through the first run's later steps, and the most in any step."""
    steps = timeline.steps[timeline.steps["run_index"] == timeline.steps["run_index"].min()]
    own = stays.weights["component"].isin(timeline.denoisers).to_numpy()
    size = np.where(own, stays.weights["size_bytes"].to_numpy(np.float64), 0)
    total = float(size.sum())
    if steps.empty or not total:
        return "When weights are on the device"
    start, end = int(steps["start_ns"].min()), int(steps["end_ns"].max())
    come, go = np.clip(stays.start_ns, start, end), np.clip(stays.end_ns, start, end)
    most = max(_largest(size[stays.weight], come, go, np.linspace(start, end, SLICES + 1)))
    # What stays may have come in step 1 itself.
    settled = int(steps["end_ns"].min()) if len(steps) > 1 else start
    length = np.maximum(go - np.maximum(come, settled), 0)
    kept = float(size[np.bincount(stays.weight, length, minlength=len(size)) >= _ALL * (end - settled)].sum())
    whose = f"{' and '.join(timeline.denoisers)}'s {format_memory(total)}"
    if kept >= _ALL * total:
        return f"All of the {whose} of weights stay on the device from step to step"
    if kept >= _SOME * total:
        rest = f"at most {format_memory(most)} are there at once"
        return f"{format_memory(kept)} of the {whose} of weights stay on the device; {rest}"
    return f"At most {format_memory(most)} of the {whose} of weights are on the device at once"
