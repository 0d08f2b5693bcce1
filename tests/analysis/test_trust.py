"""Missing device records are told, and only they."""

from __future__ import annotations

import dataclasses

from builders import build_run

from tracekit.analysis import build_timeline, summarize
from tracekit.model import RunData


def warnings(run: RunData) -> list[str]:
    return summarize(build_timeline(run)).warnings


def without_late_records(run: RunData) -> RunData:
    half = run.device_ops.start_ns.median()
    return dataclasses.replace(run, device_ops=run.device_ops[run.device_ops.start_ns < half].reset_index(drop=True))


def test_a_whole_record_needs_no_warning() -> None:
    assert warnings(build_run(activity="cupti")) == []


def test_a_record_that_was_cut_short_is_told_with_how_much() -> None:
    run = without_late_records(build_run(activity="cupti"))
    [warning] = warnings(run)
    missing = int((build_timeline(run).copies.device_start_ns == -1).sum())
    assert 0 < missing < len(run.copies)
    assert warning.startswith(f"{missing:,} of {len(run.copies):,} copies have no device record")
    assert warning.endswith("the cupti record is cut short")


def test_a_killed_run_names_the_window_that_was_open() -> None:
    run = without_late_records(build_run(activity="cupti", complete=False, incomplete_reason="killed"))
    assert any("still open when the profile ended" in warning for warning in warnings(run))


def test_without_a_device_record_nothing_is_missing() -> None:
    run = build_run(activity="none")
    empty = dataclasses.replace(run, device_ops=run.device_ops.iloc[:0])
    assert warnings(empty) == []
