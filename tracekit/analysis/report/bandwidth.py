"""How fast weights were copied to the device, by size, state and host memory."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tracekit.analysis.coldwarm import onload_rows
from tracekit.model import Timeline
from tracekit.model.report import MAX_POINTS, CopyGroup, CopyState
from tracekit.model.text import take_rows

_STATES = list(CopyState)
_SIZES = 16
"""Size classes of a state: where there are more different sizes, neighbours are taken together."""
_FINEST = 0.01
"""Width of a scatter's cell, as a share of size and of time: copies in one cell are one mark."""


def copy_groups(timeline: Timeline) -> list[CopyGroup]:
    """The groups by state, memory and size. Copies whose duration is not known are left out."""
    copies = timeline.copies
    rows = timeline.once(onload_rows)
    rows = rows[((copies["duration_ns"] > 0) & (copies["size_bytes"] > 0)).to_numpy()[rows]]
    own = take_rows(copies, ["size_bytes", "duration_ns", "first", "paged", "host_memory"], rows)
    paged, first, warm = (_STATES.index(state) for state in (CopyState.PAGED, CopyState.FIRST, CopyState.WARM))
    own = own.assign(
        state=np.where(own["paged"], paged, np.where(own["first"], first, warm)),
        size_class=_classes(own["size_bytes"]),
    )
    groups: list[CopyGroup] = []
    for (_, memory), series in own.groupby(["state", "host_memory"], observed=True):
        each = max(1, MAX_POINTS // series["size_class"].nunique())
        groups += [_group(part, str(memory), each) for _, part in series.groupby("size_class")]
    return sorted(groups, key=lambda group: (_STATES.index(group.state), group.host_memory, group.size_bytes))


def _classes(sizes: pd.Series[int]) -> pd.Series[int]:
    """A number for each size: the sizes themselves where they are few, else equal steps of their logarithm."""
    if sizes.nunique() <= _SIZES:
        return sizes
    logs = np.log(sizes.to_numpy())
    classes = np.round((logs - logs.min()) / (logs.max() - logs.min()) * (_SIZES - 1)).astype(np.int64)
    return pd.Series(classes, index=sizes.index)


def _group(copies: pd.DataFrame, memory: str, max_points: int) -> CopyGroup:
    low, median, high = (round(value) for value in copies["duration_ns"].quantile([0.25, 0.5, 0.75]))
    return CopyGroup(
        state=_STATES[copies["state"].iloc[0]],
        host_memory=memory,
        size_bytes=round(copies["size_bytes"].median()),
        copies=len(copies),
        total_bytes=int(copies["size_bytes"].sum()),
        median_ns=median,
        low_ns=low,
        high_ns=high,
        points=_points(copies, max_points),
    )


def _points(copies: pd.DataFrame, max_points: int) -> list[tuple[int, int, int]]:
    """Cells of a logarithmic grid, widened until they are few enough, each with the mean of what is in it."""
    size, duration = copies["size_bytes"].to_numpy(float), copies["duration_ns"].to_numpy(float)
    width = _FINEST
    while True:
        cells = pd.DataFrame({"x": np.log(size) // width, "y": np.log(duration) // width, "s": size, "d": duration})
        grouped = cells.groupby(["x", "y"])
        if grouped.ngroups <= max_points:
            break
        width *= 2
    means, counts = grouped[["s", "d"]].mean(), grouped.size()
    return [
        (round(mean_size), round(mean_ns), int(count))
        for mean_size, mean_ns, count in zip(means["s"], means["d"], counts, strict=True)
    ]
