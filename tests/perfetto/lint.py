"""What Perfetto would drop, bend or choke on in a Chrome JSON trace, told from the file alone.

Perfetto's own error counters miss several of these: an arrow that binds to the wrong slice, an emptied counter. Only
the event kinds that tracekit writes are known (M, X, C, s, f); any other is an error.
"""

from __future__ import annotations

import bisect
import gzip
import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

MAX_EXACT_US = 2**42  # beyond it a double of microseconds, times 1000, no longer rounds to every nanosecond
MAX_DEPTH = 511
_ESCAPE = re.compile(rb'(?<!\\)(?:\\\\)*\\(u[0-9a-fA-F]{4}|[^"\\u/])')

Event = dict[str, Any]
Thread = tuple[int, int]


@dataclass
class Report:
    """Errors lose or distort something in a viewer, warnings only look bad. And what a correct import holds."""

    errors: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    slices: int = 0
    flows: int = 0
    counter_samples: int = 0
    duration_ns: int = 0

    def error(self, what: str, example: object) -> None:
        self.errors[what] += 1
        self.examples.setdefault(what, str(example)[:200])

    def warn(self, what: str, example: object) -> None:
        self.warnings[what] += 1
        self.examples.setdefault(what, str(example)[:200])


def read_events(data: bytes) -> list[Event]:
    """The events of a trace, gzipped or not. Raises ValueError where JSON's strict reading would."""
    raw = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    events: list[Event] = json.loads(raw.decode("utf-8"), parse_constant=_refuse)["traceEvents"]
    return events


def lint(data: bytes) -> Report:
    """Lint a trace, gzipped or not."""
    report = Report()
    raw = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    for escape in _ESCAPE.findall(raw):
        report.error("an escape that Perfetto shows raw, or that makes it fail beside an escaped quote", escape)
    threads: dict[Thread, list[tuple[int, int]]] = defaultdict(list)
    flows: dict[tuple[Any, ...], list[Event]] = defaultdict(list)
    named: set[tuple[str, int, int]] = set()
    used: set[tuple[str, int, int]] = set()
    for event in read_events(raw):
        pid, tid, kind = event.get("pid"), event.get("tid"), event.get("ph")
        if not _is_id(pid) or not _is_id(tid) or (kind in ("X", "s", "f") and tid == 0):
            report.error("an id that Perfetto folds onto another", event)
            continue
        if kind == "M":
            if event["args"].get("name"):
                named.add((event["name"], pid, tid if event["name"] == "thread_name" else 0))
            continue
        if not _is_time(event.get("ts")):
            report.error("a time that is missing, negative or beyond what a double can tell", event)
            continue
        used.add(("process_name", pid, 0))
        if kind == "X":
            _lint_slice(report, event, threads)
            used.add(("thread_name", pid, tid))
        elif kind == "C":
            _lint_counter(report, event)
        elif kind in ("s", "f"):
            flows[event.get("cat"), event.get("name"), event.get("id")].append(event)
        else:
            report.error(f"an event of a kind that tracekit does not write: {kind!r}", event)
    for thread, slices in threads.items():
        _lint_nesting(report, thread, slices)
    _lint_flows(report, flows, threads)
    for missing in sorted(used - named):
        report.warn(f"no {missing[0]}", missing[1:])
    return report


def _lint_slice(report: Report, event: Event, threads: dict[Thread, list[tuple[int, int]]]) -> None:
    duration = event.get("dur")
    if not _is_time(duration):
        report.error("a slice whose duration is missing or negative", event)
        return
    start = _ns(event["ts"])
    end = start + _ns(duration)
    threads[event["pid"], event["tid"]].append((start, end))
    report.slices += 1
    report.duration_ns += end - start
    if not event.get("name"):
        report.warn("a slice without a name", event)


def _lint_counter(report: Report, event: Event) -> None:
    values = list((event.get("args") or {}).values())
    if not values or not all(_is_number(value) for value in values):
        report.error("a counter whose value is missing or no finite number", event)
    else:
        report.counter_samples += len(values)


def _lint_nesting(report: Report, thread: Thread, slices: list[tuple[int, int]]) -> None:
    slices.sort(key=lambda times: (times[0], -times[1]))
    ends: list[int] = []
    for start, end in slices:
        while ends and ends[-1] <= start:
            ends.pop()
        if ends and end > ends[-1]:
            report.error("a slice that overlaps another without nesting in it: dropped", (thread, start, end))
            continue
        ends.append(end)
        if len(ends) > MAX_DEPTH:
            report.error("a slice nested too deep: flattened", (thread, start, end))


def _lint_flows(
    report: Report, flows: dict[tuple[Any, ...], list[Event]], threads: dict[Thread, list[tuple[int, int]]]
) -> None:
    starts = {thread: [start for start, _ in slices] for thread, slices in threads.items()}
    reach = {thread: _running_maximum(slices) for thread, slices in threads.items()}
    for key, events in flows.items():
        by_kind = {event["ph"]: event for event in events}
        if len(events) != 2 or len(by_kind) != 2 or not isinstance(key[2], int) or not 0 <= key[2] < 2**63:
            report.error("a flow that is not one start and one end of one id", events)
            continue
        if by_kind["f"].get("bp") != "e":
            report.error("a flow end without bp:e binds to the next slice", events)
        if by_kind["f"]["ts"] < by_kind["s"]["ts"]:
            report.error("a flow that ends before it starts: dropped", events)
        report.flows += 1
        for event in events:
            thread, moment = (event["pid"], event["tid"]), _ns(event["ts"])
            index = bisect.bisect_right(starts.get(thread, []), moment) - 1
            if index < 0 or reach[thread][index] <= moment:
                report.error("a flow's end outside any slice of its thread", event)


def _running_maximum(slices: list[tuple[int, int]]) -> list[int]:
    result, most = [], -1
    for _, end in slices:
        most = max(most, end)
        result.append(most)
    return result


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_EXACT_US


def _ns(microseconds: float) -> int:
    """As Perfetto reads a time: an integer exactly, anything else as a double, times 1000, rounded."""
    return microseconds * 1000 if isinstance(microseconds, int) else round(microseconds * 1000)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON: Perfetto hangs on it in a counter, and drops a slice's args for it")
