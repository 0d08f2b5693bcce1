"""What each module's weights cost: its onloads, cold and warm, and the time that they left exposed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.coldwarm import onload_rows
from tracekit.model import ModuleRow, SpanKind, Timeline, TransferRow
from tracekit.model.text import codes_and_texts, take_rows


def module_rows(timeline: Timeline, activity: Activity, transfers: Sequence[TransferRow]) -> list[ModuleRow]:
    """One row a module whose weights were brought to the device, by exposed time; `transfers` have its onloads."""
    columns = ["fqn", "size_bytes", "start_ns", "end_ns", "device_start_ns", "device_end_ns"]
    copies = take_rows(timeline.copies, columns, timeline.once(onload_rows))
    fqn, names = codes_and_texts(copies["fqn"])
    bytes_moved, exposed = np.zeros(len(names), np.int64), np.zeros(len(names), np.int64)
    np.add.at(bytes_moved, fqn, copies["size_bytes"].to_numpy())
    np.add.at(exposed, fqn, activity.exposed_ns(copies))
    place = {name: index for index, name in enumerate(names)}
    compute_ns, classes = _compute(timeline.spans), _classes(timeline)
    rows = [
        ModuleRow(
            fqn=row.fqn,
            module_class=classes.get(row.fqn, ""),
            onloads=row.onloads,
            weight_bytes=row.weight_bytes,
            h2d_bytes=int(bytes_moved[place[row.fqn]]),
            exposed_ns=int(exposed[place[row.fqn]]),
            compute_ns=compute_ns.get(row.fqn, 0),
            first_ns=row.first_ns,
            warm_ns=row.warm_ns,
            ceiling_ns=row.ceiling_ns,
        )
        for row in transfers
    ]
    return sorted(rows, key=lambda row: (-row.exposed_ns, row.fqn))


def _compute(spans: pd.DataFrame) -> dict[str, int]:
    """Device time of forwards by FQN."""
    ran = np.flatnonzero((spans["kind"] == SpanKind.FORWARD) & (spans["device_ns"] > 0))
    codes, names = codes_and_texts(spans["fqn"].iloc[ran])
    sums = np.zeros(len(names), np.int64)
    np.add.at(sums, codes, spans["device_ns"].to_numpy()[ran])
    return dict(zip(names, sums.tolist(), strict=True))


def _classes(timeline: Timeline) -> dict[str, str]:
    """Class names by FQN: as registered, else what the forwards are called."""
    forwards = timeline.spans.loc[timeline.spans["kind"] == SpanKind.FORWARD, ["fqn", "name"]].drop_duplicates("fqn")
    registered = timeline.run.parameters.drop_duplicates("fqn")
    return dict(zip(forwards["fqn"], forwards["name"], strict=True)) | dict(
        zip(registered["fqn"], registered["module_class"], strict=True)
    )
