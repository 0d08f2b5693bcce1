"""A trace that must fit keeps what a reader wants: first, last and slowest steps, then what lasts longest."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import build_run
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.importing import check_import

from tracekit.analysis.timeline import build_timeline
from tracekit.cli.main import main
from tracekit.errors import UsageError
from tracekit.model import TABLES, Timeline
from tracekit.render import thinning as fitting
from tracekit.render.chrome import write_chrome_trace
from tracekit.render.selection import Thinning, most_telling
from tracekit.render.slices import TraceStats
from tracekit.render.thinning import write_fitting_trace
from tracekit.runfolder import RunWriter

STEPS = 8


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return build_timeline(build_run(steps=STEPS))


def fitted(timeline: Timeline, max_bytes: int, **options: Any) -> tuple[bytes, TraceStats]:
    stream = io.BytesIO()
    stats = write_fitting_trace(timeline, stream, max_bytes, **options)
    return stream.getvalue(), stats


def whole(timeline: Timeline, **options: Any) -> bytes:
    stream = io.BytesIO()
    write_chrome_trace(timeline, stream, **options)
    return stream.getvalue()


def slices(data: bytes, category: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(gzip.decompress(data))["traceEvents"] if event.get("cat") == category]


def test_what_fits_is_written_whole(timeline: Timeline) -> None:
    data = whole(timeline)
    assert fitted(timeline, len(data))[0] == data


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4, 0.2, 0.1, 0.05])
def test_it_never_is_larger_and_says_what_is_left_out(timeline: Timeline, share: float, tmp_path: Path) -> None:
    limit = int(len(whole(timeline)) * share)
    data, stats = fitted(timeline, limit)
    assert len(data) <= limit
    assert fitted(timeline, limit)[0] == data
    assert len(slices(data, "user_annotation")) == STEPS - stats.left_out_steps
    assert f"{stats.left_out_steps} step" in stats.adjustments(steps=True)
    events = json.loads(gzip.decompress(data))["traceEvents"]
    host = next(event for event in events if event["name"] == "process_name")["args"]["name"]
    assert f"{stats.left_out_steps} steps left out" in host
    assert ("slices under" in host) == (stats.left_out_short > 0)
    (tmp_path / "trace.json.gz").write_bytes(data)
    assert check_import(tmp_path / "trace.json.gz") == []


@settings(max_examples=15)
@given(
    steps=st.integers(1, 9),
    blocks=st.integers(1, 4),
    share=st.floats(0.02, 1.2),
    compress=st.booleans(),
    only_steps=st.none() | st.just([0, -1]),
)
def test_whatever_the_run_and_the_limit_it_keeps_to_it_or_says_that_nothing_fits(
    steps: int, blocks: int, share: float, compress: bool, only_steps: list[int] | None
) -> None:
    run = build_timeline(build_run(steps=steps, blocks=blocks))
    everything = whole(run, only_steps=only_steps, compress=compress)
    limit = int(len(everything) * share)
    try:
        data, stats = fitted(run, limit, only_steps=only_steps, compress=compress)
    except UsageError:
        smallest = whole(run, only_steps=only_steps, compress=compress, thinning=fitting._ladder(steps)[-1])
        assert len(smallest) > limit
        return
    assert len(data) <= limit
    asked = steps if only_steps is None else min(2, steps)
    assert (data == everything) == (stats.left_out_short == 0 and stats.left_out_steps == steps - asked)
    assert share < 1 or data == everything


@pytest.mark.parametrize("share", [2, 1, 0.9, 0.5, 0.2, 0.1])
@pytest.mark.parametrize("compress", [True, False])
def test_two_layouts_or_three_find_what_fits_and_use_most_of_it(
    share: float, compress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build_timeline(build_run(steps=60, blocks=4))
    limit = int(len(whole(run, compress=compress)) * share)
    layouts: list[Thinning] = []

    def counted(*args: Any, **options: Any) -> TraceStats:
        layouts.append(options["thinning"])
        return write_chrome_trace(*args, **options)

    monkeypatch.setattr(fitting, "write_chrome_trace", counted)
    data, _ = fitted(run, limit, compress=compress)
    assert len(layouts) <= 3
    assert share > 1 or len(data) >= 0.8 * limit


def test_short_slices_go_only_once_three_steps_are_too_many(timeline: Timeline) -> None:
    size = len(whole(timeline))
    found = [fitted(timeline, int(size * share))[1] for share in np.linspace(0.95, 0.05, 12)]
    assert any(stats.left_out_short for stats in found)
    assert all(stats.left_out_steps == STEPS - 3 for stats in found if stats.left_out_short)


def test_what_is_left_of_copies_is_the_longest(timeline: Timeline) -> None:
    data, stats = fitted(timeline, len(whole(timeline)) // 8)
    kept = slices(data, "gpu_memcpy")
    assert 0 < len(kept) < len(timeline.copies)
    assert stats.left_out_short > 0
    steps = {event["args"]["step_index"] for event in kept}
    durations = timeline.copies.loc[timeline.copies["step_index"].isin(steps), "duration_ns"].nlargest(len(kept))
    assert sorted(event["dur"] for event in kept) == pytest.approx(sorted(durations / 1000))


def arrows(data: bytes) -> set[tuple[str, str, int]]:
    """The weight that each arrow leaves (on the device, else on the host), and the start of the forward it reaches."""
    trace = json.loads(gzip.decompress(data))
    ends = {(event["ph"], event["id"]): event for event in trace["traceEvents"] if event["ph"] in "sf"}
    forwards, copies = (
        [event for event in trace["traceEvents"] if event.get("cat") in categories]
        for categories in (("forward",), ("copy", "gpu_memcpy"))
    )

    def around(point: dict[str, Any], slices: list[dict[str, Any]]) -> dict[str, Any]:
        own = (event for event in slices if (event["pid"], event["tid"]) == (point["pid"], point["tid"]))
        inside = [event for event in own if event["ts"] <= point["ts"] < event["ts"] + event["dur"]]
        return max(inside, key=lambda event: event["ts"])

    found = set()
    for number in {number for _, number in ends}:
        weight = around(ends["s", number], copies)["args"]
        begin = around(ends["f", number], forwards)["ts"]
        found.add((weight["fqn"], weight["parameter"], trace["baseTimeNanoseconds"] + round(begin * 1000)))
    return found


def test_every_arrow_of_a_thinned_trace_leads_where_it_led_in_the_whole(timeline: Timeline) -> None:
    there = arrows(whole(timeline))
    left = {True: 0, False: 0}  # arrows in traces with every slice of their steps, and with the long ones alone
    for thinning in (Thinning(5), *(Thinning(3, min_ns) for min_ns in (1_000, 8_000, 32_000, 512_000))):
        stream = io.BytesIO()
        stats = write_chrome_trace(timeline, stream, thinning=thinning)
        found = arrows(stream.getvalue())
        assert found <= there
        left[stats.left_out_short == 0] += len(found)
    assert min(left.values()) > 0


def test_the_first_the_last_and_the_slowest_steps_of_every_run_come_first() -> None:
    walls = [[5, 1, 9, 2], [5, 7, 1, 4]]
    rows = [
        (run, step, 100 * step, 100 * step + wall) for run, own in enumerate(walls) for step, wall in enumerate(own)
    ]
    steps = pd.DataFrame(rows, columns=["run_index", "step_index", "start_ns", "end_ns"])
    everything = np.ones(len(steps), np.bool_)

    def chosen(count: int) -> set[tuple[int, int]]:
        kept = steps[most_telling(steps, everything, count)]
        return set(zip(kept["run_index"], kept["step_index"], strict=True))

    assert chosen(2) == {(0, 0), (1, 0)}
    assert chosen(4) == {(0, 0), (1, 0), (0, 3), (1, 3)}
    assert chosen(5) - chosen(4) == {(0, 2)}
    assert chosen(6) - chosen(5) == {(1, 1)}


def test_it_thins_what_was_asked_for(timeline: Timeline) -> None:
    data, _ = fitted(timeline, len(whole(timeline)) // 3, only_steps=[1, 2, 5, 6])
    kept = {event["args"]["step_index"] for event in slices(data, "user_annotation")}
    assert kept <= {1, 2, 5, 6}
    assert {1, 6} <= kept


def test_what_cannot_fit_is_one_line(timeline: Timeline) -> None:
    with pytest.raises(UsageError, match="no trace of this run fits into 100 B"):
        fitted(timeline, 100)


def test_a_run_without_steps_is_thinned_by_duration(timeline: Timeline) -> None:
    bare = replace(timeline, steps=timeline.steps.iloc[:0])
    assert fitted(bare, len(whole(timeline)) // 4)[1].left_out_short > 0


def test_the_command_keeps_to_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = build_run(steps=STEPS)
    writer = RunWriter.create(tmp_path / "run", run.manifest)
    for name, table in TABLES.items():
        for row in getattr(run, name).itertuples(index=False):
            writer.append(table, *row)
    writer.finish(run.manifest)
    path = tmp_path / "small.json.gz"
    assert main(["export", str(tmp_path / "run"), "--max-mb", "0.01", "-o", str(path)]) == 0
    assert path.stat().st_size <= 10_000
    assert "left out" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--max-mb", "much"]) == 2
