"""What Perfetto made of a trace: its own error counters, and whether everything in the file arrived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perfetto.engine import Row, TraceError, query
from perfetto.lint import Report, lint

# Rows of the stats table that Perfetto calls information and that are losses all the same.
_LOSSES = (
    "flow_step_without_start",
    "flow_end_without_start",
    "track_event_parser_errors",
    "track_event_tokenizer_errors",
    "interned_data_tokenizer_errors",
    "tokenizer_skipped_packets",
)
STATS = (
    "select name, value from stats where value > 0 and "
    f"(severity != 'info' or name in ({', '.join(map(repr, _LOSSES))}))"
)
UNFINISHED = "select count(*) from slice where dur < 0"
COUNTS = (
    "select (select count(*) from slice), (select count(*) from flow), (select count(*) from counter), "
    "(select coalesce(sum(s.dur), 0) from slice s join thread_track t on s.track_id = t.id)"
)
QUERIES = (STATS, UNFINISHED, COUNTS)


def import_problems(report: Report, run: Callable[[str], list[Row]]) -> list[str]:
    """Everything wrong with an import, one line each; `run` answers a query, `report` is the file's lint."""
    problems = [f"lint: {what} ({count}), such as {report.examples[what]}" for what, count in report.errors.items()]
    problems += [f"lint warning: {what} ({count})" for what, count in report.warnings.items()]
    problems += [f"stats.{name} = {value}" for name, value in run(STATS)]
    unfinished = run(UNFINISHED)[0][0]
    if unfinished:
        problems.append(f"{unfinished} slices never end")
    expected = (report.slices, report.flows, report.counter_samples, report.duration_ns)
    for what, wanted, got in zip(("slices", "flows", "counter samples", "ns"), expected, run(COUNTS)[0], strict=True):
        if wanted != got:
            problems.append(f"the file holds {wanted} {what}, Perfetto {got}")
    return problems


def check_import(trace: Path) -> list[str]:
    """Everything wrong with importing a trace into Perfetto, one line each; nothing when it is perfect."""
    try:
        answers = dict(zip(QUERIES, query(trace, *QUERIES), strict=True))
    except TraceError as error:
        return [f"not loaded: {error}"]
    return import_problems(lint(trace.read_bytes()), answers.__getitem__)
