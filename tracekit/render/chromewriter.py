"""A streaming writer of Chrome Trace Event JSON that Perfetto, chrome://tracing and HTA read without a loss.

Times go in as integer nanoseconds of one clock and are written as microseconds with three decimals relative to a
base: viewers read them as doubles, so an absolute time would lose its last 256 ns and with that, neighbours would
overlap. Whole columns go in, so that the cost an event is one microsecond, not ten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from isal import isal_zlib

from tracekit.render.jsontext import Member, Words, args_pieces, quote
from tracekit.render.rowtext import (
    Floats,
    Formatted,
    Ints,
    Picked,
    RowText,
    data_bytes,
    decimals,
    integers,
    microseconds,
    whole_numbers,
)

ROWS_AT_ONCE = 32_768
CHARACTERS_AT_ONCE = 64_000_000
"""Fewer rows at once where their texts are long, so that memory stays bounded whatever a module is called."""
MAX_RELATIVE_NS = 2**42 * 1000
"""Below this (51 days), a double of microseconds is off by less than a quarter of a nanosecond, which rounds away."""
_UNNAMED = "(no name)"
_GZIP = 31  # window bits for a gzip header, whose time stays 0: the same events give the same bytes
_GZIP_LEVEL = 1  # of ISA-L: 5% smaller than zlib's level 1 in a fifth of its time, which was a quarter of an export's


@dataclass(frozen=True)
class FlowPoints:
    """Where arrows begin or end: a moment inside a slice of a thread."""

    pid: Ints
    tid: Ints
    t_ns: Ints


class ChromeTraceWriter:
    """Writes one trace to a binary stream; `close` completes it. Not thread-safe.

    `base_ns` is the clock's time that becomes 0: no event may lie before it. `header` is put beside the events, as
    Kineto does with baseTimeNanoseconds and deviceProperties.
    """

    def __init__(self, stream: BinaryIO, base_ns: int, header: Mapping[str, Any], *, compress: bool = True) -> None:
        self._stream = stream
        self._base_ns = base_ns
        self._compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP) if compress else None
        self._flow_id = 0
        self._separator_due = False
        self.events = 0
        # json's own separators: HTA finds the rank by a pattern with a space after the colon.
        text = json.dumps(dict(header), ensure_ascii=False, allow_nan=False)
        opening = f'{text[:-1]}{", " if header else ""}"traceEvents": [\n'
        self._write(opening.encode("utf-8", "replace"))

    def process(self, pid: int, name: str, sort_index: int) -> None:
        """Name a process and place it; Perfetto before v53 ignores the place and puts most slices first."""
        self._metadata(pid, 0, "process_name", "name", quote(name))
        self._metadata(pid, 0, "process_sort_index", "sort_index", str(sort_index))

    def thread(self, pid: int, tid: int, name: str, sort_index: int) -> None:
        """Name a thread and place it; Perfetto before v53 places threads by tid, the main one first.

        Raises:
            ValueError: a tid that viewers would fold onto another (they keep 32 bits, and 0 is the main thread).
        """
        if not 0 < tid < 2**31:
            raise ValueError(f"thread id {tid} is not in 1..2**31-1")
        self._metadata(pid, tid, "thread_name", "name", quote(name))
        self._metadata(pid, tid, "thread_sort_index", "sort_index", str(sort_index))

    def slices(
        self,
        pid: int,
        tids: Ints,
        start_ns: Ints,
        end_ns: Ints,
        *,
        categories: Words,
        names: Words,
        args: Sequence[Member] = (),
    ) -> None:
        """Complete slices, one a row. On one thread they must nest or be apart, or viewers drop the later one."""
        if (end_ns < start_ns).any():
            raise ValueError("a slice ends before it starts")
        relative = self._relative(start_ns)
        self._relative(end_ns)
        durations = end_ns - start_ns
        labels = [f',"name":{quote(word or _UNNAMED)},"ts":' for word in (_UNNAMED, *names.words)]
        text = RowText(
            ',\n{"ph":"X"',
            categories.piece(',"cat":'),
            *whole_numbers(tids, f',"pid":{pid},"tid":'),
            Picked(lambda rows: names.codes[rows] + 1, labels),
            *microseconds(relative),
            ',"dur":',
            *microseconds(durations),
            *((',"args":', *args_pieces(args)) if args else ()),
            "}",
        )
        self._rows(text, len(tids))

    def counter(self, pid: int, name: str, unit: str, t_ns: Ints, values: Floats) -> None:
        """Samples of one counter track, which viewers title "<name> <unit>"; each holds until the next.

        Raises:
            ValueError: a value that is not finite.
        """
        relative = self._relative(t_ns)
        text = RowText(
            f',\n{{"ph":"C","name":{quote(name)},"pid":{pid},"tid":{pid},"ts":',
            *microseconds(relative),
            f',"args":{{{quote(unit)}:',
            Formatted(lambda rows: decimals(values[rows], 9)),
            "}}",
        )
        self._rows(text, len(t_ns))

    def flows(self, name: str, starts: FlowPoints, ends: FlowPoints) -> None:
        """Arrows from `starts` to `ends`, row by row; an end may not be earlier than its start."""
        if (ends.t_ns < starts.t_ns).any():
            raise ValueError("a flow ends before it starts")
        # Ids are never free again: a second start of one id would take all its ends along.
        ids = np.arange(len(starts.t_ns), dtype=np.int64) + self._flow_id + 1
        self._flow_id += len(ids)
        for phase, points in (("s", starts), ("f", ends)):
            binding = ',"bp":"e"' if phase == "f" else ""  # to the slice around it, not to the next one
            text = RowText(
                f',\n{{"ph":"{phase}"{binding},"cat":{quote(name)},"name":{quote(name)},"id":',
                Formatted(lambda rows: integers(ids[rows])),
                *whole_numbers(points.pid, ',"pid":'),
                *whole_numbers(points.tid, ',"tid":'),
                ',"ts":',
                *microseconds(self._relative(points.t_ns)),
                "}",
            )
            self._rows(text, len(ids))

    def close(self) -> None:
        """Write the end; until then the file is no valid JSON. The stream itself stays open."""
        self._write(b"\n]}\n")
        if self._compressor is not None:
            self._stream.write(self._compressor.flush())

    def _metadata(self, pid: int, tid: int, kind: str, key: str, value: str) -> None:
        event = f'{{"ph":"M","name":"{kind}","pid":{pid},"tid":{tid},"ts":0,"args":{{"{key}":{value}}}}}'
        self._write((f",\n{event}" if self._separator_due else event).encode("utf-8"))
        self._separator_due = True
        self.events += 1

    def _rows(self, text: RowText, count: int) -> None:
        """Write rows that begin with a comma; the first event of all goes without."""
        for rows in _chunks(count, text.longest):
            data = data_bytes(text(rows))
            self._write(data if self._separator_due else data[2:])
            self._separator_due = True
        self.events += count

    def _relative(self, times_ns: Ints) -> Ints:
        relative = times_ns.astype(np.int64) - self._base_ns
        if len(relative) and not (relative.min() >= 0 and relative.max() < MAX_RELATIVE_NS):
            raise ValueError("a time before the trace's start, or 51 days after it")
        return relative

    def _write(self, data: bytes | memoryview) -> None:
        self._stream.write(self._compressor.compress(data) if self._compressor is not None else data)


def _chunks(count: int, longest: int) -> list[slice]:
    """Slices of rows, none longer than fits, when a row may have that many characters."""
    step = max(1, min(ROWS_AT_ONCE, CHARACTERS_AT_ONCE // longest))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
