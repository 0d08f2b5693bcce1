"""What each module's weights cost: its onloads, cold and warm, and the time that they left exposed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.model import Direction, ModuleRow, SpanKind, Timeline
from tracekit.model.text import codes_and_texts, row_numbers


def module_rows(timeline: Timeline, activity: Activity) -> list[ModuleRow]:
    """One row a module whose weights were brought to the device, by exposed time.

    A module's n-th onload is the n-th copy of each of its parameters, whichever hook brought them.
    """
    onloads = _onloads(timeline.copies, activity)
    total = onloads.groupby("module").agg(
        onloads=("onload", "size"), h2d_bytes=("size_bytes", "sum"), exposed_ns=("exposed_ns", "sum")
    )
    first = onloads[onloads["onload"] == 0].set_index("module")
    total["weight_bytes"] = first["size_bytes"]
    total["first_ns"] = first["duration_ns"]
    total["warm_ns"] = onloads[onloads["onload"] > 0].groupby("module")["duration_ns"].median()
    total = total.sort_values("exposed_ns", ascending=False, kind="stable")
    _, names = codes_and_texts(timeline.copies["fqn"])
    compute_ns, classes = _compute(timeline.spans), _classes(timeline)
    return [
        ModuleRow(
            fqn=names[row["module"]],
            module_class=classes.get(names[row["module"]], ""),
            onloads=int(row["onloads"]),
            weight_bytes=int(row["weight_bytes"]),
            h2d_bytes=int(row["h2d_bytes"]),
            exposed_ns=int(row["exposed_ns"]),
            compute_ns=compute_ns.get(names[row["module"]], 0),
            first_ns=int(row["first_ns"]),
            warm_ns=None if np.isnan(row["warm_ns"]) else int(row["warm_ns"]),
        )
        for row in total.reset_index().to_dict("records")
    ]


def _onloads(copies: pd.DataFrame, activity: Activity) -> pd.DataFrame:
    """One row an onload: module (the number of its FQN), onload (from 0), and what its copies sum to."""
    rows = np.flatnonzero(copies["is_weight"] & (copies["direction"] == Direction.H2D))
    copies = copies.iloc[rows[np.argsort(copies["start_ns"].to_numpy()[rows], kind="stable")]]
    weight = pd.Series(row_numbers(copies[["fqn", "parameter"]]))
    frame = pd.DataFrame(
        {
            "module": codes_and_texts(copies["fqn"])[0],
            "onload": weight.groupby(weight).cumcount(),
            "size_bytes": copies["size_bytes"].to_numpy(),
            "duration_ns": copies["duration_ns"].to_numpy(),
            "exposed_ns": activity.exposed_ns(copies),
        }
    )
    return frame.groupby(["module", "onload"], as_index=False).sum()


def _compute(spans: pd.DataFrame) -> dict[str, int]:
    """Device time of forwards by FQN."""
    forwards = spans.loc[spans["kind"] == SpanKind.FORWARD, ["fqn", "device_ns"]]
    sums = forwards.groupby("fqn", observed=True)["device_ns"].sum()
    return {str(fqn): int(total) for fqn, total in sums.items()}


def _classes(timeline: Timeline) -> dict[str, str]:
    """Class names by FQN: as registered, else what the forwards are called."""
    forwards = timeline.spans.loc[timeline.spans["kind"] == SpanKind.FORWARD, ["fqn", "name"]].drop_duplicates("fqn")
    registered = timeline.run.parameters.drop_duplicates("fqn")
    return dict(zip(forwards["fqn"], forwards["name"], strict=True)) | dict(
        zip(registered["fqn"], registered["module_class"], strict=True)
    )
