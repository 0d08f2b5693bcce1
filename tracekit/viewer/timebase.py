"""Turns a moment of a run into the time that its trace file shows, by the header that tracekit wrote into the file."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from tracekit.model import ClockInfo

_HEADER_BYTES = 4096
_BASE = re.compile(rb'"baseTimeNanoseconds": ?(\d{1,19})\b')


def trace_base_ns(trace: Path, clock: ClockInfo) -> int | None:
    """CLOCK_MONOTONIC at the trace's moment 0; None where the file does not begin with tracekit's header.

    Only the first 4 KiB are read: the rest is as long as it likes, and none of ours to parse.
    """
    try:
        with gzip.open(trace) as stream:
            head = stream.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error):
        return None
    found = _BASE.search(head)
    return int(found[1]) - clock.epoch_ns + clock.monotonic_ns if found else None
