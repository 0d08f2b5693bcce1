"""What goes into a run folder comes out of it, whatever the rows, the threads and the moment of reading."""

import math
import os
import threading
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders import build_run, make_frame, make_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.errors import UsageError
from tracekit.model import (
    CALIBRATION,
    COPIES,
    COUNTERS,
    DEVICE_OPS,
    FRAMES,
    HOST_SAMPLES,
    NONE,
    PARAMETERS,
    SPANS,
    TABLES,
    Column,
    Direction,
    HostMemory,
    Measure,
    SpanKind,
    Table,
)
from tracekit.runfolder import RunWriter, default_run_path, read_run
from tracekit.runfolder.spool import BUFFER_LIMIT

WORDS = {
    (SPANS, "kind"): list(SpanKind),
    (COPIES, "direction"): list(Direction),
    (COPIES, "host_memory"): list(HostMemory),
    (PARAMETERS, "host_memory"): list(HostMemory),
    (CALIBRATION, "measure"): list(Measure),
    (DEVICE_OPS, "op"): ["kernel", "memcpy", "memset"],
}
HOSTILE = ["", "\0", "\n\r", "a" * 70_000, "../../etc/passwd", "</script>", "\U0001f600", "nul", "NaN", "-1", "\u202e"]
TIME = st.integers(0, 2**60)


def values(table: Table, column: Column) -> st.SearchStrategy:
    if (table, column.name) in WORDS:
        return st.sampled_from(WORDS[table, column.name]).map(str)
    if column.name.endswith(("_ns", "_bytes")):
        return TIME if not column.nullable else st.one_of(st.just(NONE), TIME)
    return {
        "i32": st.integers(-(2**31), 2**31 - 1),
        "i64": st.integers(-(2**63), 2**63 - 1),
        "f64": st.floats(),
        "str": st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12)),
        "bool": st.booleans(),
    }[column.kind]


@st.composite
def table_rows(draw, table: Table) -> list[dict]:
    rows = draw(
        st.lists(st.fixed_dictionaries({column.name: values(table, column) for column in table.columns}), max_size=8)
    )
    for index, row in enumerate(rows):
        if "start_ns" in row and "end_ns" in row:
            row["start_ns"], row["end_ns"] = sorted((row["start_ns"], row["end_ns"]))
        if table is SPANS:
            row["span_id"], row["parent_id"] = index, draw(st.integers(NONE, index - 1))
        if table is COPIES:
            row["copy_id"] = index
    return rows


def append_rows(writer: RunWriter, table: Table, rows: list[dict]) -> None:
    for row in rows:
        writer.append(table, *(row[name] for name in table.column_names))


def assert_same(read: pd.DataFrame, rows: list[dict], table: Table) -> None:
    pd.testing.assert_frame_equal(read, make_frame(table, rows))


@pytest.fixture
def writer(tmp_path):
    return RunWriter.create(tmp_path / "run", make_manifest())


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_rows_come_back_before_and_after_finish(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "run"
    writer = RunWriter.create(path, make_manifest())
    rows = {name: data.draw(table_rows(table)) for name, table in TABLES.items()}
    for name, table in TABLES.items():
        append_rows(writer, table, rows[name])
    writer.flush()
    unfinished = read_run(path)
    writer.finish(make_manifest())
    finished = read_run(path)
    for name, table in TABLES.items():
        assert_same(getattr(unfinished, name), rows[name], table)
        assert_same(getattr(finished, name), rows[name], table)


def test_a_built_run_comes_back(tmp_path):
    run = build_run()
    writer = RunWriter.create(tmp_path / "run", run.manifest)
    for name, table in TABLES.items():
        append_rows(writer, table, getattr(run, name).to_dict("records"))
    writer.finish(run.manifest)
    read = read_run(tmp_path / "run")
    assert read.manifest == run.manifest
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(read, name), getattr(run, name))


def test_surrogates_of_a_path_become_escapes(writer):
    writer.append(FRAMES, "caf\udce9.py", 1, 2, 3)
    writer.finish(make_manifest())
    assert read_run(writer.path).frames["name"].tolist() == ["caf\\udce9.py"]


def test_parquet_says_null_and_what_columns_mean(writer):
    writer.append(HOST_SAMPLES, 7, math.nan, NONE, 0, 1, NONE, 5)
    writer.append(FRAMES, "", 1, 2, 3)
    writer.finish(make_manifest())
    samples = pq.read_table(writer.path / "host_samples" / "part-0.parquet")
    assert samples.to_pylist() == [
        {
            "copy_id": 7,
            "resident_before": None,
            "read_bytes": None,
            "major_faults": 0,
            "minor_faults": 1,
            "io_stall_ns": None,
            "probe_ns": 5,
        }
    ]
    assert samples.schema.field("read_bytes").metadata == {
        b"doc": next(column.doc for column in HOST_SAMPLES.columns if column.name == "read_bytes").encode(),
        b"unit": b"bytes",
    }
    assert samples.schema.field("copy_id").nullable is False
    assert pq.read_table(writer.path / "frames" / "part-0.parquet")["name"].to_pylist() == [""]


def test_a_finished_folder_holds_only_parquet_and_the_manifest(writer):
    writer.append(COUNTERS, "x", 0, 1, 1.0)
    writer.finish(make_manifest())
    assert sorted(entry.name for entry in writer.path.iterdir()) == sorted([*TABLES, "manifest.json"])
    assert {entry.name for name in TABLES for entry in (writer.path / name).iterdir()} == {"part-0.parquet"}
    assert list(writer.path.parent.iterdir()) == [writer.path]


def test_the_manifest_is_complete_only_after_a_finish_in_order(writer):
    assert read_run(writer.path).manifest.complete is False
    writer.update_manifest(make_manifest(warnings=["a warning"]))
    assert read_run(writer.path).manifest.complete is False
    assert read_run(writer.path).manifest.warnings == ["a warning"]
    writer.finish(make_manifest(incomplete_reason="interrupted"))
    manifest = read_run(writer.path).manifest
    assert (manifest.complete, manifest.incomplete_reason) == (False, "interrupted")


def test_a_folder_is_readable_when_only_some_tables_are_parquet(writer, monkeypatch):
    for index in range(3):
        writer.append(SPANS, index, NONE, "run", "a", "", "", 0, 1, 2, 3)
        writer.append(FRAMES, "f", 1, 2, 3)
    # The last table's part cannot be made: a file is where its folder belongs.
    (writer.path / "frames").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write the run folder"):
        writer.finish(make_manifest())
    (writer.path / "frames").unlink()
    run = read_run(writer.path)
    assert (len(run.spans), len(run.frames), run.manifest.complete) == (3, 3, False)


def test_rows_of_many_threads_are_whole_and_in_each_threads_order(writer):
    pack, add = writer.raw(SPANS)
    count = 20_000

    def work(thread: int) -> None:
        for index in range(count):
            name = writer.intern(f"{thread}-{index % 500}")
            kind, empty = writer.intern("forward"), writer.intern("")
            add(pack(thread * count + index, NONE, kind, name, empty, empty, 0, thread, index, index))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        writer.flush()
    writer.finish(make_manifest())
    spans = read_run(writer.path).spans
    assert len(spans) == 4 * count
    for thread, own in spans.groupby("thread_id"):
        assert own["start_ns"].tolist() == list(range(count))
        assert own["name"].tolist() == [f"{thread}-{index % 500}" for index in range(count)]


def test_memory_stays_bounded_without_a_flush(writer):
    pack, add = writer.raw(COUNTERS)
    series = writer.intern("x")
    peak = 0
    for index in range(400_000):
        add(pack(series, 0, index, 1.0))
        peak = max(peak, writer.buffered_bytes)
    row = len(pack(series, 0, 0, 1.0))
    assert 400_000 * row > 8 * BUFFER_LIMIT
    assert peak <= BUFFER_LIMIT + 2 * row
    for index in range(100_000):
        writer.append(FRAMES, f"function {index}", 1, index, index)
        peak = max(peak, writer.buffered_bytes)
    assert peak < 6 * BUFFER_LIMIT
    writer.finish(make_manifest())
    run = read_run(writer.path)
    assert run.counters["t_ns"].tolist() == list(range(400_000))
    assert run.frames["name"].iloc[-1] == "function 99999"


def test_a_forked_child_adds_nothing(writer):
    writer.append(COUNTERS, "parent", 0, 1, 1.0)
    child = os.fork()
    if child == 0:
        writer.append(COUNTERS, "child", 0, 2, 2.0)
        writer.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    writer.append(COUNTERS, "parent", 0, 3, 3.0)
    writer.finish(make_manifest())
    assert read_run(writer.path).counters["series"].tolist() == ["parent", "parent"]


def test_an_existing_folder_is_refused_and_force_replaces_only_run_folders(tmp_path):
    path = tmp_path / "run"
    RunWriter.create(path, make_manifest()).finish(make_manifest())
    (path / "trace.json.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="exists already"):
        RunWriter.create(path, make_manifest())
    RunWriter.create(path, make_manifest(workload="second"), force=True)
    assert read_run(path).manifest.workload == "second"
    assert not (path / "trace.json.gz").exists()

    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"'thesis\.tex', which tracekit did not write"):
        RunWriter.create(path, make_manifest(), force=True)
    assert (path / "thesis.tex").read_text() == "years of work"
    assert read_run(path).manifest.workload == "second"


@pytest.mark.parametrize("content", ["file", "link", "folder named as ours", "json of others"])
def test_force_never_replaces_what_is_no_run_folder(tmp_path, content):
    path = tmp_path / "out"
    if content == "file":
        path.write_text("mine")
    elif content == "link":
        (tmp_path / "target").mkdir()
        path.symlink_to(tmp_path / "target")
    else:
        (path / "spans").mkdir(parents=True)
        if content == "json of others":
            (path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(UsageError, match="no run folder"):
        RunWriter.create(path, make_manifest(), force=True)
    assert path.exists()
    assert [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_a_place_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", Path("/proc/tracekit/run")):
        with pytest.raises(UsageError, match="cannot write the run folder") as caught:
            RunWriter.create(path, make_manifest())
        assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_discard_leaves_nothing(writer):
    writer.append(COUNTERS, "x", 0, 1, 1.0)
    writer.discard()
    assert list(writer.path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        ("black-forest-labs/FLUX.1-dev", "FLUX.1-dev_group_2025-01-02_03-04-05"),
        ("synthetic:flux-tiny", "flux-tiny_group_2025-01-02_03-04-05"),
        ("/models/my model/", "my-model_group_2025-01-02_03-04-05"),
        ("scripts/sample.py", "sample_group_2025-01-02_03-04-05"),
        ("..", "run_group_2025-01-02_03-04-05"),
    ],
)
def test_default_names(tmp_path, workload, name):
    now = datetime(2025, 1, 2, 3, 4, 5)
    path = default_run_path(tmp_path, workload, "group", now)
    assert path == tmp_path / "runs" / name
    path.mkdir(parents=True)
    assert default_run_path(tmp_path, workload, "group", now).name == name + "_2"
