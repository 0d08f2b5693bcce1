"""Summaries as JSON, for machines: the fields and units of `tracekit.model.Summary` and its like."""

from __future__ import annotations

import msgspec


def render_json(summary: msgspec.Struct) -> str:
    """One JSON object, indented. Times are integer nanoseconds (`_ns`), sizes integer bytes (`_bytes`)."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2).decode()
