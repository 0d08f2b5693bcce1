"""What each module's weights cost: its onloads, cold and warm, and the time that they left exposed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.model import Direction, ModuleRow, SpanKind, Timeline


def module_rows(timeline: Timeline, activity: Activity) -> list[ModuleRow]:
    """One row a module whose weights were brought to the device, by exposed time.

    A module's n-th onload is the n-th copy of each of its parameters, whichever hook brought them.
    """
    onloads = _onloads(timeline.copies, activity)
    if onloads.empty:
        return []
    first = onloads[onloads["onload"] == 0].set_index("fqn")
    total = onloads.groupby("fqn").agg(
        onloads=("onload", "size"), h2d_bytes=("size_bytes", "sum"), exposed_ns=("exposed_ns", "sum")
    )
    total["weight_bytes"] = first["size_bytes"]
    total["first_ns"] = first["duration_ns"]
    total["warm_ns"] = onloads[onloads["onload"] > 0].groupby("fqn")["duration_ns"].median()
    total["compute_ns"] = _compute(timeline.spans)
    total["module_class"] = _classes(timeline)
    total = total.fillna({"compute_ns": 0, "module_class": ""})
    total = total.sort_values("exposed_ns", ascending=False, kind="stable").reset_index()
    return [
        ModuleRow(
            fqn=row["fqn"],
            module_class=row["module_class"],
            onloads=int(row["onloads"]),
            weight_bytes=int(row["weight_bytes"]),
            h2d_bytes=int(row["h2d_bytes"]),
            exposed_ns=int(row["exposed_ns"]),
            compute_ns=int(row["compute_ns"]),
            first_ns=int(row["first_ns"]),
            warm_ns=None if np.isnan(row["warm_ns"]) else int(row["warm_ns"]),
        )
        for row in total.to_dict("records")
    ]


def _onloads(copies: pd.DataFrame, activity: Activity) -> pd.DataFrame:
    """One row an onload: fqn, onload (from 0), and what its copies sum to."""
    copies = copies[copies["is_weight"] & (copies["direction"] == Direction.H2D)]
    copies = copies.sort_values("start_ns", kind="stable")
    # Numbers instead of names: grouping a million rows by strings costs seconds.
    modules, names = pd.factorize(copies["fqn"])
    parameters, _ = pd.factorize(copies["parameter"])
    frame = pd.DataFrame({"module": modules, "parameter": parameters}).assign(
        size_bytes=copies["size_bytes"].to_numpy(),
        duration_ns=copies["duration_ns"].to_numpy(),
        exposed_ns=activity.exposed_ns(copies),
    )
    frame["onload"] = frame.groupby(["module", "parameter"]).cumcount()
    sums = frame.drop(columns="parameter").groupby(["module", "onload"], as_index=False).sum()
    return sums.assign(fqn=np.asarray(names, dtype=object)[sums["module"]])


def _compute(spans: pd.DataFrame) -> pd.Series[int]:
    forwards = spans[spans["kind"] == SpanKind.FORWARD]
    return forwards.groupby("fqn")["device_ns"].sum()


def _classes(timeline: Timeline) -> pd.Series[str]:
    """Class names by FQN: as registered, else what the forwards are called."""
    forwards = timeline.spans.loc[timeline.spans["kind"] == SpanKind.FORWARD, ["fqn", "name"]]
    registered = timeline.run.parameters[["fqn", "module_class"]].rename(columns={"module_class": "name"})
    return pd.concat([registered, forwards]).drop_duplicates("fqn").set_index("fqn")["name"]
