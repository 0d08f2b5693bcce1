"""Onloads cold against warm: of each parameter, module and component, the first one against the later ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.ceilings import Ceilings
from tracekit.analysis.hostevidence import HostEvidence
from tracekit.analysis.intervals import Times
from tracekit.model import ColdWarm, Direction, PagingEvidence, StepRow, Timeline, TransferRow
from tracekit.model.text import codes_and_texts, row_numbers, take_rows
from tracekit.model.typical import warm_steps

_QUARTILES = (0.25, 0.5, 0.75)
_WHOLE = 0.99
"""Share of the first onload's bytes that a later one must have brought to be compared with it."""


@dataclass(frozen=True)
class Transfers:
    """Onloads cold against warm, each list by excess; those without a warm sample last, by the first onload's time."""

    components: list[TransferRow]
    modules: list[TransferRow]
    parameters: list[TransferRow]


def weight_onloads(copies: pd.DataFrame) -> Times:
    """Positions of the copies that brought weights to the device, in the order in which they began."""
    rows = np.flatnonzero(copies["is_weight"] & (copies["direction"] == Direction.H2D))
    order = np.lexsort((copies["copy_id"].to_numpy()[rows], copies["start_ns"].to_numpy()[rows]))
    return np.asarray(rows[order])


def onload_rows(timeline: Timeline) -> Times:
    """The positions of a timeline's weight onloads, in order: to be asked for by `Timeline.once`."""
    return weight_onloads(timeline.copies)


def onload_weights(timeline: Timeline) -> Times:
    """A number for the parameter of each of `onload_rows`: to be asked for by `Timeline.once`."""
    return row_numbers(take_rows(timeline.copies, ["fqn", "parameter"], timeline.once(onload_rows)))


def transfer_rows(timeline: Timeline, evidence: HostEvidence, ceilings: Ceilings) -> Transfers:
    """The onloads of every weight, of modules' weights together, and of components'."""
    rows = timeline.once(onload_rows)
    columns = ["fqn", "parameter", "size_bytes", "duration_ns", "paged"]
    copies = take_rows(timeline.copies, columns, rows)
    weight = timeline.once(onload_weights)
    onload = pd.Series(weight).groupby(weight).cumcount().to_numpy().astype(np.int64)
    fqn, names = codes_and_texts(copies["fqn"])
    parameter, parameters = codes_and_texts(copies["parameter"])
    known = (evidence.known & (evidence.read_bytes >= 0))[rows]
    each = pd.DataFrame(
        {
            "onload": onload,
            "size": copies["size_bytes"].to_numpy(),
            "ns": copies["duration_ns"].to_numpy(),
            "paged": copies["paged"].to_numpy(),
            "read": np.where(known, evidence.read_bytes[rows], 0),
            "known": known,
            "ceiling": np.nan_to_num(ceilings.to_device_ns(copies["size_bytes"].to_numpy())),
        },
        copy=False,
    )
    of_parts = [name.partition(".")[0] for name in names]
    parts = {name: place for place, name in enumerate(dict.fromkeys(of_parts))}
    component = np.array([parts[name] for name in of_parts], np.int64)[fqn]
    _, at = np.unique(weight, return_index=True)
    labels = [(names[fqn[row]], parameters[parameter[row]]) for row in at.tolist()]
    return Transfers(
        _rows(_summed(each, component), [(name, "") for name in parts]),
        _rows(_summed(each, fqn), [(name, "") for name in names]),
        _rows(each.assign(unit=weight), labels),
    )


def cold_warm(steps: list[StepRow], paging: PagingEvidence | None) -> ColdWarm | None:
    """Step 1 of the first run against its warm steps."""
    own = [step for step in steps if step.run_index == steps[0].run_index]
    if not own:
        return None
    first, later = own[0], warm_steps(own, paging)
    walls = [step.wall_ns for step in later]
    return ColdWarm(
        first_step_ns=first.wall_ns,
        warm_step_ns=round(median(walls)) if later else None,
        warm_min_ns=min(walls, default=None),
        warm_max_ns=max(walls, default=None),
        warm_samples=len(later),
        first_copy_ns=first.copy_ns,
        warm_copy_ns=round(median(step.copy_ns for step in later)) if later else None,
        first_h2d_bytes=first.h2d_bytes,
        warm_h2d_bytes=round(median(step.h2d_bytes for step in later)) if later else None,
    )


def _summed(each: pd.DataFrame, unit: Times) -> pd.DataFrame:
    """A row for each onload of each unit: the sums of its copies, and whether any of them paged or is known."""
    onload = each["onload"].to_numpy()
    count = int(onload.max(initial=0)) + 1
    number, found = pd.factorize(unit * count + onload)
    columns: dict[str, npt.NDArray[Any]] = {"unit": found // count, "onload": found % count}
    for name in ("size", "ns", "paged", "read", "known", "ceiling"):
        values = each[name].to_numpy()
        columns[name] = np.zeros(len(found), values.dtype)
        np.add.at(columns[name], number, values)
    return pd.DataFrame(columns)


def _rows(onloads: pd.DataFrame, labels: list[tuple[str, str]]) -> list[TransferRow]:
    """A row for each unit that was onloaded; `unit` says whose each onload is, as a position in `labels`."""
    frame = onloads[onloads["onload"] == 0].set_index("unit")
    whole = onloads["size"] >= _WHOLE * frame["size"].reindex(onloads["unit"]).to_numpy()
    warm = onloads.loc[(onloads["onload"] > 0) & whole & ~onloads["paged"], ["unit", "ns"]].groupby("unit")["ns"]
    quartiles = warm.quantile(np.array(_QUARTILES)).unstack().reindex(columns=list(_QUARTILES))
    frame = frame.join(quartiles)
    frame["samples"] = warm.size().reindex(frame.index, fill_value=0)
    frame["onloads"] = onloads.groupby("unit").size()
    rows = [_row(labels[int(unit)], row) for unit, row in zip(frame.index, frame.to_dict("records"), strict=True)]
    return sorted(rows, key=_by_excess)


def _row(label: tuple[str, str], row: dict[Any, Any]) -> TransferRow:
    low, middle, high = (None if math.isnan(row[share]) else round(row[share]) for share in _QUARTILES)
    return TransferRow(
        fqn=label[0],
        parameter=label[1],
        onloads=int(row["onloads"]),
        weight_bytes=int(row["size"]),
        first_ns=int(row["ns"]),
        first_paged=bool(row["paged"]),
        first_read_bytes=int(row["read"]) if row["known"] else None,
        warm_samples=int(row["samples"]),
        warm_ns=middle,
        warm_low_ns=low,
        warm_high_ns=high,
        excess_ns=None if middle is None else int(row["ns"]) - middle,
        ceiling_ns=round(row["ceiling"]) or None,
    )


def _by_excess(row: TransferRow) -> tuple[bool, int, int, str, str]:
    return (row.excess_ns is None, -(row.excess_ns or 0), -row.first_ns, row.fqn, row.parameter)
