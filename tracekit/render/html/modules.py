"""The table of modules: its columns, with a figure to sort by and a text to show for each cell."""

from __future__ import annotations

from typing import Any

from tracekit.model import ModuleRow
from tracekit.model.report import RunReport
from tracekit.render.plaintext import visible
from tracekit.units import format_bytes, format_duration, gb_per_s_text

MAX_ROWS = 2_000
STATIC_ROWS = 60
"""Rows that are in the page itself, for readers without scripts; a script shows the others."""

COLUMNS = ("module", "class", "onloads", "size", "first", "warm", "warm GB/s", "exposed copies", "kernels")
CSV_COLUMNS = (
    "module", "class", "onloads", "weight_bytes", "first_ns", "warm_ns", "warm_gb_per_s", "exposed_ns", "compute_ns",
)  # fmt: skip
"""The downloaded file holds what was stored, not what is shown."""


def module_table(run: RunReport, max_rows: int = MAX_ROWS) -> dict[str, Any]:
    """The rows in order of exposed copy time: texts to show, figures to sort by (None: no sample), moments."""
    rows = run.summary.modules[:max_rows]
    moments = [run.moments.get(row.fqn) for row in rows]
    return {
        "columns": list(COLUMNS),
        "csv": list(CSV_COLUMNS),
        "texts": [_texts(row) for row in rows],
        "values": [_values(row) for row in rows],
        "moments": [[moment.start_ns, moment.end_ns] if moment else None for moment in moments],
        "left_out": len(run.summary.modules) - len(rows),
    }


def _texts(row: ModuleRow) -> list[str]:
    return [
        visible(row.fqn),
        visible(row.module_class),
        f"{row.onloads:,}",
        format_bytes(row.weight_bytes),
        format_duration(row.first_ns),
        "no sample" if row.warm_ns is None else format_duration(row.warm_ns),
        "-" if row.warm_ns is None else gb_per_s_text(row.weight_bytes, row.warm_ns),
        format_duration(row.exposed_ns),
        format_duration(row.compute_ns),
    ]


def _values(row: ModuleRow) -> list[int | float | None]:
    rate = row.weight_bytes / row.warm_ns if row.warm_ns else None
    figures = [row.onloads, row.weight_bytes, row.first_ns, row.warm_ns, rate and round(rate, 4)]
    return [*figures, row.exposed_ns, row.compute_ns]
