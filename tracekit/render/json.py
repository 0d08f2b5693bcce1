"""A run's summary as JSON, for machines: the fields and units of `tracekit.model.Summary`."""

from __future__ import annotations

import msgspec

from tracekit.model import Summary


def render_json(summary: Summary) -> str:
    """One JSON object, indented. Times are integer nanoseconds (`_ns`), sizes integer bytes (`_bytes`)."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2).decode()
