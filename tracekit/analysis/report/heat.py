"""Modules against steps: what each one's copies and kernels took, how fast they were, what was in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.coldwarm import onload_rows
from tracekit.analysis.hostevidence import HostEvidence
from tracekit.analysis.intervals import Times
from tracekit.model import NONE, SpanKind, Timeline
from tracekit.model.report import MAX_HEAT_COLUMNS, HeatMap, Matrix
from tracekit.model.text import codes_and_texts, row_numbers, says, take_rows

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Grid:
    """Where a module's value of a step goes: FQN to row, step to column, and how many columns' steps are averaged."""

    rows: pd.Series[int]
    steps: pd.Series[int]
    row_count: int
    column_count: int

    def place(self, frame: pd.DataFrame) -> _Places:
        """Where the frame's rows go."""
        codes, names = codes_and_texts(frame["fqn"])
        row = self.rows.reindex(names, fill_value=NONE).to_numpy()[codes]
        number = row_numbers(frame[["run_index", "step_index"]])
        _, at = np.unique(number, return_index=True)
        steps = pd.MultiIndex.from_frame(frame[["run_index", "step_index"]].iloc[at])
        column = self.steps.reindex(steps, fill_value=NONE).to_numpy()[number]
        known = np.flatnonzero((row != NONE) & (column != NONE))
        return _Places(known, row[known] * self.column_count + column[known], (self.row_count, self.column_count))


@dataclass(frozen=True)
class _Places:
    """Rows of a frame that have a place in the matrices, and their cells' numbers there."""

    known: Times
    cell: Times
    shape: tuple[int, int]

    def sums(self, values: Values) -> Values:
        """The values of all the frame's rows summed where they belong."""
        total = np.zeros(self.shape[0] * self.shape[1])
        np.add.at(total, self.cell, values[self.known])
        return total.reshape(self.shape)


def heat_map(timeline: Timeline, max_rows: int) -> HeatMap | None:
    """The heat map of the denoising steps; None where they neither copied a weight nor ran a kernel in a module."""
    copies = _step_copies(timeline)
    forwards = _step_forwards(timeline)
    modules = _in_order(copies, forwards)
    if not modules or timeline.steps.empty:
        return None
    grid, rows_each, columns_each = _grid(timeline, modules, max_rows)
    duration = copies["duration_ns"].to_numpy(float)
    size = copies["size_bytes"].to_numpy(float)
    of_copies, of_forwards = grid.place(copies), grid.place(forwards)
    copy_ns, copied = of_copies.sums(duration), of_copies.sums(size)
    resident = copies["resident_before"].to_numpy(float)
    probed = ~np.isnan(resident)
    probed_bytes = of_copies.sums(np.where(probed, size, 0.0))
    resident_bytes = of_copies.sums(np.where(probed, resident * size, 0.0))
    compute_ns = of_forwards.sums(forwards["device_ns"].to_numpy(float))
    steps_in = np.bincount(grid.steps.to_numpy(), minlength=grid.column_count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return HeatMap(
            modules=_labels(modules, rows_each),
            steps=_labels([_label(timeline, run, step) for run, step in grid.steps.index], columns_each),
            modules_a_row=rows_each,
            steps_a_column=columns_each,
            copy=_matrix(np.where(copied > 0, copy_ns / steps_in, np.nan)),
            rate=_matrix(copied / np.where(copy_ns > 0, copy_ns, np.nan)),
            resident=_matrix(resident_bytes / np.where(probed_bytes > 0, probed_bytes, np.nan)),
            compute=_matrix(np.where(compute_ns > 0, compute_ns / steps_in, np.nan)),
        )


def _step_copies(timeline: Timeline) -> pd.DataFrame:
    """Weights' copies to the device in steps, with what the page cache held of each before."""
    copies = timeline.copies
    rows = timeline.once(onload_rows)
    rows = rows[copies["step_index"].to_numpy()[rows] != NONE]
    columns = ["fqn", "run_index", "step_index", "start_ns", "size_bytes", "duration_ns"]
    resident = timeline.once(HostEvidence.of_timeline).resident_before[rows]
    return take_rows(copies, columns, rows).assign(resident_before=resident)


def _step_forwards(timeline: Timeline) -> pd.DataFrame:
    """Forwards in steps of modules that hold weights of their own, so that no kernel counts for a parent, too."""
    spans = timeline.spans
    holders = set(timeline.run.parameters["fqn"].cat.categories)
    chosen = (spans["kind"] == SpanKind.FORWARD) & (spans["step_index"] != NONE) & (spans["device_ns"] > 0)
    chosen &= says(spans["fqn"], holders.__contains__)
    return spans.loc[chosen, ["fqn", "run_index", "step_index", "start_ns", "device_ns"]]


def _in_order(copies: pd.DataFrame, forwards: pd.DataFrame) -> list[str]:
    """The modules by when they first ran; those of which no forward was seen by their first copy."""
    ran, copied = (rows.groupby("fqn", observed=True)["start_ns"].min() for rows in (forwards, copies))
    ran, copied = (starts.set_axis(starts.index.astype(object)) for starts in (ran, copied))
    return [str(fqn) for fqn in ran.combine_first(copied).sort_values(kind="stable").index]


def _grid(timeline: Timeline, modules: list[str], max_rows: int) -> tuple[_Grid, int, int]:
    steps = pd.MultiIndex.from_frame(timeline.steps[["run_index", "step_index"]])
    rows_each = -(-len(modules) // max_rows)
    columns_each = -(-len(steps) // MAX_HEAT_COLUMNS)
    rows = pd.Series(np.arange(len(modules)) // rows_each, index=modules)
    columns = pd.Series(np.arange(len(steps)) // columns_each, index=steps)
    return _Grid(rows, columns, int(rows.iloc[-1]) + 1, int(columns.iloc[-1]) + 1), rows_each, columns_each


def _label(timeline: Timeline, run_index: int, step_index: int) -> str:
    return f"{run_index + 1}.{step_index + 1}" if len(timeline.runs) > 1 else str(step_index + 1)


def _labels(names: list[str], each: int) -> list[str]:
    """The names in groups of `each`: a group's is its first and last."""
    groups = [names[start : start + each] for start in range(0, len(names), each)]
    return [group[0] if len(group) == 1 else f"{group[0]} to {group[-1]}" for group in groups]


def _matrix(values: Values) -> Matrix | None:
    if np.isnan(values).all():
        return None
    rows, columns = values.shape
    return Matrix(rows=rows, columns=columns, values=values.astype("<f4").tobytes())
