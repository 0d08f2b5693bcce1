"""What a trace keeps: all, or only some steps and what lasts long enough, with a note of what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.errors import UsageError
from tracekit.render.rowtext import Ints


@dataclass(frozen=True)
class Gap:
    """A stretch of a run that was left out, and what was in it."""

    run_index: int
    start_ns: int
    end_ns: int
    text: str


@dataclass(frozen=True)
class Selection:
    """The kept time windows, in order and apart (None: all time), and how long a slice must last to be kept."""

    windows: npt.NDArray[np.int64] | None
    gaps: Sequence[Gap]
    left_out_steps: int
    min_ns: int = 0

    def keeps(self, times_ns: Ints) -> npt.NDArray[np.bool_]:
        """Whether each moment lies in a kept window (its end excluded)."""
        if self.windows is None:
            return np.ones(len(times_ns), np.bool_)
        index = np.searchsorted(self.windows[:, 0], times_ns, side="right") - 1
        return np.asarray((index >= 0) & (times_ns < self.windows[np.maximum(index, 0), 1]))

    def lasts(self, start_ns: Ints, end_ns: Ints) -> npt.NDArray[np.bool_]:
        """Whether each slice lasts long enough; one that ends before its start lasts no time."""
        return np.asarray(np.maximum(end_ns - start_ns, 0) >= self.min_ns)

    def keeps_slices(self, start_ns: Ints, end_ns: Ints) -> npt.NDArray[np.bool_]:
        """Whether each slice begins in a kept window and lasts long enough."""
        return self.keeps(start_ns) & self.lasts(start_ns, end_ns)

    def samples(
        self, t_ns: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """A counter's samples in the windows; each window begins with the value that held then.

        Of samples closer together than slices must last, only the last one is kept.
        """
        if self.min_ns and len(t_ns):
            last = np.append(np.diff(t_ns // self.min_ns) != 0, True)
            t_ns, values = t_ns[last], values[last]
        if self.windows is None or not len(t_ns):
            return t_ns, values
        opens = self.windows[:, 0]
        before = np.searchsorted(t_ns, opens, side="right") - 1
        held = before >= 0
        kept = self.keeps(t_ns)
        times = np.concatenate([opens[held], t_ns[kept]])
        order = np.argsort(times, kind="stable")
        return times[order], np.concatenate([values[before[held]], values[kept]])[order]


@dataclass(frozen=True)
class Thinning:
    """How far a trace is thinned: at most so many steps, and no slice that is shorter than `min_ns`."""

    most_steps: int | None = None
    min_ns: int = 0


def select_steps(
    steps: pd.DataFrame, runs: pd.DataFrame, only_steps: Sequence[int] | None, thinning: Thinning | None = None
) -> Selection:
    """The windows of these steps (0-based; negative ones count from a run's end) in every run.

    `runs` has the run_index, start_ns and end_ns of each run. A thinning keeps the most telling of them.

    Raises:
        UsageError: the run has no steps, or none of the given indexes is one of them.
    """
    thinning = thinning or Thinning()
    kept = asked_steps(steps, only_steps)
    if thinning.most_steps is not None and thinning.most_steps < kept.sum():
        kept = most_telling(steps, kept, thinning.most_steps)
    elif only_steps is None:
        return Selection(None, (), 0, thinning.min_ns)
    return Selection(step_windows(steps, kept), _gaps(steps, kept, runs), int((~kept).sum()), thinning.min_ns)


def most_telling(steps: pd.DataFrame, kept: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.bool_]:
    """`count` of the kept steps: each run's first, each run's last, then the slowest."""
    place = steps[kept].groupby("run_index").cumcount().to_numpy()
    from_end = steps[kept].groupby("run_index").cumcount(ascending=False).to_numpy()
    rank = np.where(place == 0, 0, np.where(from_end == 0, 1, 2))
    slowness = (steps["start_ns"] - steps["end_ns"]).to_numpy()[kept]
    chosen = np.zeros(len(steps), np.bool_)
    chosen[np.flatnonzero(kept)[np.lexsort((slowness, rank))[:count]]] = True
    return chosen


def asked_steps(steps: pd.DataFrame, only_steps: Sequence[int] | None) -> npt.NDArray[np.bool_]:
    """Which steps are meant: all, or those with these indexes.

    Raises:
        UsageError: none of the given indexes is one of a step.
    """
    if only_steps is None:
        return np.ones(len(steps), np.bool_)
    kept = np.zeros(len(steps), np.bool_)
    for rows in steps.groupby("run_index").indices.values():
        indexes = steps["step_index"].to_numpy()[rows]
        wanted = {index if index >= 0 else index + len(indexes) for index in only_steps}
        kept[rows] = np.isin(indexes, list(wanted))
    if not kept.any():
        asked = ",".join(map(str, only_steps)) or "none"
        most = int(steps["step_index"].max()) if len(steps) else -1
        have = f"it has steps 0 to {most}" if most >= 0 else "it recorded no step"
        raise UsageError(f"cannot keep only the steps {asked} of this run: {have}")
    return kept


def step_windows(steps: pd.DataFrame, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Start and end of the kept steps, in order; those that touch or overlap (runs in several threads) as one."""
    windows = steps.loc[kept, ["start_ns", "end_ns"]].to_numpy(np.int64)
    windows = windows[np.argsort(windows[:, 0], kind="stable")]
    ends = np.maximum.accumulate(windows[:, 1])
    begins = np.concatenate([[True], windows[1:, 0] > ends[:-1]])
    return np.stack([windows[begins, 0], ends[np.concatenate([begins[1:], [True]])]], axis=1)


def _gaps(steps: pd.DataFrame, kept: npt.NDArray[np.bool_], runs: pd.DataFrame) -> list[Gap]:
    gaps = []
    for run_index, start_ns, end_ns in runs[["run_index", "start_ns", "end_ns"]].itertuples(index=False):
        of_run = steps[kept & (steps["run_index"] == run_index)].sort_values("start_ns")
        left_out = steps[~kept & (steps["run_index"] == run_index)]
        edges = [start_ns, *of_run[["start_ns", "end_ns"]].to_numpy().ravel().tolist(), end_ns]
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            inside = left_out[(left_out["start_ns"] >= begin) & (left_out["start_ns"] < end)]["step_index"]
            if end > begin and len(of_run):
                gaps.append(Gap(int(run_index), int(begin), int(end), _gap_text(inside)))
    return gaps


def _gap_text(step_indexes: pd.Series[int]) -> str:
    if not len(step_indexes):
        return "left out"
    first, last = int(step_indexes.min()), int(step_indexes.max())
    return f"left out: step {first}" if first == last else f"left out: steps {first} to {last}"
