"""Perfetto's engine imports our traces with zero errors, loses nothing, and finds in SQL what the run holds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from builders import THREAD, build_run

from perfetto.engine import query
from perfetto.importing import check_import
from tracekit.analysis.timeline import build_timeline
from tracekit.render.chrome import write_chrome_trace

HOSTILE = {
    "pipeline_class": 'a "quoted" \\ name\n\U0001f600\ud83d',
    "workload": "<script>alert(1)</script>",
    "complete": False,
}


def write(path: Path, only_steps: list[int] | None = None, **options: Any) -> Any:
    timeline = build_timeline(build_run(**options))
    with path.open("wb") as stream:
        write_chrome_trace(timeline, stream, only_steps)
    return timeline


@pytest.mark.parametrize(
    "options",
    [
        {"device": "cuda"},
        {"device": "emulated"},
        {"runs": 2, "steps": 5, "only_steps": [0, -1]},
        {"steps": 1, "blocks": 1},
        HOSTILE,
    ],
    ids=["cuda", "emulated", "only-steps", "one-step", "hostile"],
)
def test_zero_errors_and_nothing_lost(tmp_path: Path, options: dict[str, Any]) -> None:
    write(tmp_path / "trace.json.gz", **options)
    assert check_import(tmp_path / "trace.json.gz") == []


def test_sql_finds_every_copy_and_where_it_went(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    timeline = write(trace)
    arrows, sizes, tracks = query(
        trace,
        "select o.name, i.category, extract_arg(o.arg_set_id, 'args.fqn') = extract_arg(i.arg_set_id, 'args.fqn'), "
        "count(*) from flow f join slice o on f.slice_out = o.id join slice i on f.slice_in = i.id group by 1, 2, 3",
        "select sum(extract_arg(arg_set_id, 'args.bytes')) from slice where category = 'gpu_memcpy'",
        "select p.name, t.name, t.tid from thread t join process p using (upid) "
        "join thread_track using (utid) order by 3",
    )
    weights = int(timeline.copies["is_weight"].sum())
    assert arrows == [["Memcpy HtoD (Pageable -> Device)", "forward", 1, weights]]
    assert sizes == [[int(timeline.copies["size_bytes"].sum())]]
    assert tracks == [
        ["GPU 0: NVIDIA H100 80GB HBM3", "stream", 7],
        ["host: FluxPipeline, sequential", "main", THREAD],
    ]


def test_equal_intervals_nest_in_the_files_order(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    write(trace)
    (rows,) = query(
        trace,
        "select p.category, c.category, count(*) from slice c join slice p on c.parent_id = p.id "
        "where c.ts = p.ts and c.dur = p.dur group by 1, 2",
    )
    # A component that is called once lasts as long as its call, and is around it.
    assert rows == [["component", "forward", 5]]


def test_counters_hold_the_bytes_that_were_moved(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    timeline = write(trace)
    (rows,) = query(
        trace,
        "select c.ts, c.value from counter c join track t on c.track_id = t.id "
        "where t.name = 'H2D copies GB/s' order by 1",
    )
    moved = sum((after[0] - here[0]) * here[1] for here, after in itertools.pairwise(rows))
    copies = timeline.copies
    assert moved == pytest.approx(copies.loc[copies["direction"] == "H2D", "size_bytes"].sum(), rel=1e-6)
