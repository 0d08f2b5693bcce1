"""Kineto's trace JSON as plain data: its events, what is read of them, and the tables they belong to.

torch.profiler writes these files (libkineto's output_json.cpp); capture reads those of its own windows, and
``tracekit import`` those that people already have, tracekit's own traces among them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tracekit.model.tables import NONE, SpanKind

DEVICE_OPS_BY_CATEGORY = {"kernel": "kernel", "gpu_memcpy": "memcpy", "gpu_memset": "memset"}
"""The device_ops rows' `op` for each of Kineto's categories of device activity."""
PROFILER_STEP = "ProfilerStep#"
"""How the annotation of a step begins: torch.profiler numbers them at each ``profiler.step()``."""
KINDS_IN_NAMES = frozenset({SpanKind.SETUP, SpanKind.TRACEKIT, SpanKind.GARBAGE})
"""The kinds of spans of which tracekit's own traces say the kind before the name."""
RUNTIME_CATEGORIES = frozenset({"cuda_runtime", "cuda_driver"})


class KinetoArgs(msgspec.Struct, gc=False):
    """What is read of an event's args. Other events have other things under these names: they are not checked here."""

    device: Any = 0
    stream: Any = 0
    correlation: Any = NONE
    bytes: Any = NONE


class KinetoEvent(msgspec.Struct, gc=False):
    """One event; times are microseconds."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    tid: int | str = 0
    ts: float = 0.0
    dur: float = 0.0
    args: KinetoArgs = msgspec.field(default_factory=KinetoArgs)


class KinetoTrace(msgspec.Struct):
    """A whole trace file."""

    traceEvents: list[KinetoEvent]  # noqa: N815 - Kineto's key
    baseTimeNanoseconds: int = 0  # noqa: N815


def to_ns(microseconds: float) -> int:
    """Kineto's microseconds as the integer nanoseconds that they were."""
    return round(microseconds * 1000)
