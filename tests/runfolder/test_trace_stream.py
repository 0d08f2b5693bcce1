"""A trace is cut between its events wherever the pieces end, and needs the memory of a piece."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracekit.runfolder import tracestream
from tracekit.runfolder.tracestream import TraceStream

TRICKY = st.text(st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", " ", "a", "\u00e9", "\n"]), max_size=8)
VALUES = st.recursive(
    TRICKY | st.integers(-9, 9) | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TRICKY, inner)
)
EVENTS = st.lists(
    st.builds(lambda name, extra: {"ph": "X", "name": name, "args": {"other": extra}}, TRICKY, VALUES), max_size=6
)


def names_in(path: Path) -> list[str]:
    return [event.name for events in TraceStream(path).pieces() for event in events]


@given(events=EVENTS, before=VALUES, after=VALUES, piece=st.integers(1, 40), indent=st.sampled_from([None, 1]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_event_is_found_wherever_the_pieces_end(
    events: list[dict[str, Any]], before: Any, after: Any, piece: int, indent: int | None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tracestream, "PIECE_BYTES", piece)
    path = tmp_path / "trace.json"
    document = {"before": before, "traceEvents": events, "after": after, "baseTimeNanoseconds": 7}
    path.write_text(json.dumps(document, indent=indent, ensure_ascii=False))
    stream = TraceStream(path)
    found = [event.name for some in stream.pieces() for event in some]
    assert found == [event["name"] for event in events]
    assert stream.header.baseTimeNanoseconds == 7


def test_a_long_trace_needs_the_memory_of_a_piece(tmp_path: Path) -> None:
    event = json.dumps({"ph": "X", "cat": "kernel", "name": "gemm" * 50, "ts": 1.5, "dur": 2, "args": {"stream": 7}})
    count = 200_000
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write('{"traceEvents": [' + ",".join([event] * count) + "]}")
    assert path.stat().st_size > 10 * tracestream.PIECE_BYTES
    tracemalloc.start()
    try:
        assert sum(map(len, TraceStream(path).pieces())) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The piece, its form without escapes, where its brackets are, and its events.
    assert peak < 20 * tracestream.PIECE_BYTES
