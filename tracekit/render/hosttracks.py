"""The host's process: a track a thread, on which everything nests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.model import NONE, Timeline
from tracekit.render import hostslices
from tracekit.render.jsontext import Words
from tracekit.render.nesting import Nesting, clip_into, nest
from tracekit.render.rowtext import Ints
from tracekit.render.selection import Selection
from tracekit.render.slices import Slices, TraceStats, forward_in_time
from tracekit.render.tracks import TrackIds

_RUN, _STEP, _SPAN, _COPY, _CALL = 0, 1, 4, 5, 6
_RUNS_AT, _GAPS_AT = 0, 3  # among the ranked kinds of slices below


@dataclass(frozen=True)
class HostTracks:
    """The host's slices in their places, in writing order, and what the rest of the trace asks of them.

    `spans_open_ns` and `copies_open_ns` are the first moment at which each is the innermost slice of its track
    (`NONE`: never). `call_fqn` names, for each runtime call, the module whose span was around it.
    """

    slices: Sequence[Slices]
    spans: Slices
    spans_open_ns: Ints
    copies: Slices
    copies_open_ns: Ints
    calls: Slices
    call_fqn: Words


def host_tracks(timeline: Timeline, selection: Selection, ids: TrackIds, stats: TraceStats) -> HostTracks:
    """Lay out the host's tracks. The ranks say who stays where two slices cross: a step before a span, and so on."""
    runs = hostslices.run_rows(timeline)
    runtime_ids = timeline.run.runtime_calls["correlation_id"].to_numpy(np.int64)
    ranked = [
        (_RUN, _kept_runs(timeline, runs, selection)),
        (_STEP, hostslices.phase_slices(timeline, runs)),
        (_STEP, hostslices.step_slices(timeline, runs)),
        (_STEP, hostslices.gap_slices(selection.gaps, runs)),
        (_STEP + 1, hostslices.component_slices(timeline)),
        (_SPAN, hostslices.span_slices(timeline, selection)),
        (_COPY, hostslices.copy_slices(timeline, selection, runtime_ids)),
        (_CALL, hostslices.runtime_slices(timeline)),
    ]
    kept = [
        slices.take(_kept(rank, slices, selection)) if index not in (_RUNS_AT, _GAPS_AT) else slices
        for index, (rank, slices) in enumerate(ranked)
    ]
    stats.left_out_short += sum(
        int(selection.keeps(slices.start_ns).sum()) - len(left)
        for (rank, slices), left in zip(ranked, kept, strict=True)
        if rank >= _SPAN
    )
    ranks = np.repeat([rank for rank, _ in ranked], [len(slices) for slices in kept])
    sizes = np.cumsum([len(slices) for slices in kept])[:-1]
    track = np.concatenate([slices.track for slices in kept])
    start = np.concatenate([slices.start_ns for slices in kept])
    end = forward_in_time(start, np.concatenate([slices.end_ns for slices in kept]), stats)
    error_ns = timeline.run.manifest.clock.alignment_error_ns or 0
    start, end = _clip_calls(track, start, end, ranks == _CALL, error_ns, stats)
    nesting = _nest_threads(track, start, end, ranks)
    stats.slices_in_extra_lanes += int((nesting.lane > 0).sum())
    tids = ids.threads(track, nesting.lane)
    placed = [
        slices.at(*columns)
        for slices, *columns in zip(
            kept, np.split(tids, sizes), np.split(start, sizes), np.split(end, sizes), strict=True
        )
    ]
    opens = np.split(nesting.open_ns, sizes)
    fqn = _owners(kept[5], sizes[4], nesting.parent)
    frames = hostslices.frame_slices(timeline)
    frames = frames.take(selection.keeps_slices(frames.start_ns, frames.end_ns))
    return HostTracks(
        [*placed, _frame_track(frames, ids, stats)],
        placed[5],
        opens[5],
        placed[6],
        opens[6],
        placed[7],
        fqn.take(np.arange(sizes[6], len(track))),
    )


def _kept(rank: int, slices: Slices, selection: Selection) -> npt.NDArray[np.bool_]:
    """Steps, phases and components are kept however short: they are few, and say where everything else is."""
    if rank < _SPAN:
        return selection.keeps(slices.start_ns)
    return selection.keeps_slices(slices.start_ns, slices.end_ns)


def _kept_runs(timeline: Timeline, runs: pd.DataFrame, selection: Selection) -> Slices:
    slices = hostslices.run_slices(timeline, runs)
    if selection.windows is None:
        return slices
    return slices.take(runs["run_index"].isin([gap.run_index for gap in selection.gaps]).to_numpy())


def _clip_calls(
    track: Ints, start: Ints, end: Ints, is_call: npt.NDArray[np.bool_], error_ns: int, stats: TraceStats
) -> tuple[Ints, Ints]:
    """Runtime calls have another clock, which is off by at most `error_ns`: off the bounds that they cross by that."""
    start, end = start.copy(), end.copy()
    for thread in pd.unique(track[is_call]):
        calls = is_call & (track == thread)
        others = ~is_call & (track == thread)
        clipped = clip_into(start[calls], end[calls], np.concatenate([start[others], end[others]]), error_ns)
        moved = np.maximum(clipped[0] - start[calls], end[calls] - clipped[1])
        stats.clipped_slices += int((moved > 0).sum())
        stats.clipped_max_ns = max(stats.clipped_max_ns, int(moved.max(initial=0)))
        start[calls], end[calls] = clipped
    return start, end


def _nest_threads(track: Ints, start: Ints, end: Ints, ranks: Ints) -> Nesting:
    whole = Nesting(*(np.full(len(track), value, np.int64) for value in (0, NONE, NONE)))
    for thread in pd.unique(track):
        rows = np.flatnonzero(track == thread)
        nesting = nest(start[rows], end[rows], ranks[rows])
        whole.lane[rows] = nesting.lane
        whole.parent[rows] = np.where(nesting.parent >= 0, rows[nesting.parent], NONE)
        whole.open_ns[rows] = nesting.open_ns
    return whole


def _owners(spans: Slices, first_span: int, parent: Ints) -> Words:
    """The module of every slice: a span's own, else that of the span around it."""
    fqn = next(member.values for member in spans.args if member.key == "fqn")
    assert isinstance(fqn, Words)
    owner = np.full(len(parent), -1, np.int32)
    owner[first_span : first_span + len(spans)] = fqn.codes
    above = parent.copy()
    while (open_rows := (owner < 0) & (above >= 0)).any():
        owner[open_rows] = owner[above[open_rows]]
        above[open_rows] = parent[above[open_rows]]
    return Words(owner, fqn.words)


def _frame_track(frames: Slices, ids: TrackIds, stats: TraceStats) -> Slices:
    """Python's frames on tracks of their own: a hook's frame ends while the span that it opened goes on."""
    end = forward_in_time(frames.start_ns, frames.end_ns, stats)
    nesting = _nest_threads(frames.track, frames.start_ns, end, np.zeros(len(frames), np.int64))
    stats.slices_in_extra_lanes += int((nesting.lane > 0).sum())
    return frames.at(ids.threads(frames.track, nesting.lane, "Python frames"), frames.start_ns, end)
