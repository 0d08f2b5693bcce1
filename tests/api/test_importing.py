"""`tracekit import` reports of other people's traces what they say, leaves the rest blank, and refuses what is none."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from builders import build_run
from kinetotraces import BASE_NS, COPIES, FIRST_US, STEP_US, THREAD, kineto_events, kineto_text, write_trace
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from tracekit import api
from tracekit.analysis.timeline import build_timeline
from tracekit.cli.main import main
from tracekit.errors import UsageError
from tracekit.model import NONE, Phase, RunData, SpanKind
from tracekit.render.chrome import write_chrome_trace
from tracekit.runfolder import tracestream

STEPS = 3


@pytest.fixture
def imported(tmp_path: Path) -> api.Run:
    return api.import_trace(write_trace(tmp_path / "gpu.json.gz"), tmp_path / "run")


def test_copies_kernels_and_steps_of_a_gpus_trace_are_reported(imported: api.Run) -> None:
    copies, timeline = imported.copies, imported.timeline
    assert timeline.steps["step_index"].tolist() == [0, 1, 2]
    assert (timeline.steps["end_ns"] - timeline.steps["start_ns"]).tolist() == [int((STEP_US - 1) * 1000)] * STEPS
    # Within the device is no transfer.
    crossing = [copy for copy in COPIES if "DtoD" not in copy[0]]
    assert copies["device_name"].tolist() == [name for name, _, _ in crossing] * STEPS
    assert copies["size_bytes"].tolist() == [size for _, size, _ in crossing] * STEPS
    assert copies["duration_ns"].tolist() == [duration * 1000 for _, _, duration in crossing] * STEPS
    assert copies["direction"].tolist() == ["H2D", "H2D", "D2H"] * STEPS
    assert copies["host_memory"].tolist() == ["unknown", "pinned", "unknown"] * STEPS
    assert copies["step_index"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert set(copies["thread_id"]) == {THREAD}
    assert set(copies["operation"]) == {"cudaMemcpyAsync"}
    summary = imported.summary()
    assert summary.h2d_bytes == (4096 + 8192) * STEPS
    assert [step.compute_ns for step in summary.steps] == [100_000] * STEPS
    assert summary.device_name == "NVIDIA H100 80GB HBM3"
    assert len(imported.data.device_ops) == 5 * STEPS


def test_what_a_gpus_trace_cannot_say_is_blank(imported: api.Run) -> None:
    copies, data = imported.copies, imported.data
    assert not copies["is_weight"].any()
    assert not copies["first"].any()
    assert not copies["paged"].any()
    assert set(copies["fqn"]) == {""}
    assert (len(data.copies), len(data.host_samples), len(data.parameters), len(data.counters)) == (0, 0, 0, 0)
    manifest = imported.manifest
    assert (manifest.components, manifest.pipeline_class, manifest.offload.mode) == ({}, "", "imported")
    assert manifest.clock.alignment_error_ns is None
    assert manifest.counts == {"events left out: cpu_op": STEPS}
    assert "are blank" in " ".join(imported.summary().warnings)


def test_moments_keep_their_place_in_the_day(imported: api.Run) -> None:
    first = imported.timeline.steps["start_ns"].iloc[0]
    clock = imported.manifest.clock
    assert clock.epoch_ns + first - clock.monotonic_ns == BASE_NS + round(FIRST_US * 1000)


def test_a_trace_without_steps_has_copies_and_no_run(tmp_path: Path) -> None:
    events = [event for event in kineto_events() if not event["name"].startswith("ProfilerStep")]
    run = api.import_trace(write_trace(tmp_path / "x.json", events), tmp_path / "run")
    assert len(run.timeline.steps) == len(run.timeline.runs) == 0
    assert len(run.copies) == 3 * STEPS
    assert set(run.copies["phase"]) == {Phase.SETUP}
    assert run.summary().total_ns == STEPS * STEP_US * 1000


def test_a_real_trace_of_torch_profiler_has_its_steps_and_annotations(tmp_path: Path) -> None:
    module = torch.nn.Linear(8, 8)
    with profile(
        activities=[ProfilerActivity.CPU], with_stack=True, schedule=schedule(wait=1, warmup=1, active=3)
    ) as profiler:
        for _ in range(5):
            with record_function("my part"):
                module(torch.zeros(2, 8))
            profiler.step()
    profiler.export_chrome_trace(str(tmp_path / "cpu.json.gz"))
    run = api.import_trace(tmp_path / "cpu.json.gz", tmp_path / "run")
    steps, spans = run.timeline.steps, run.spans
    assert steps["step_index"].tolist() == [0, 1, 2]
    parts = spans[spans["name"] == "my part"]
    assert parts["step_index"].tolist() == [0, 1, 2]
    assert parts["parent_id"].isin(spans.loc[spans["name"].str.startswith("ProfilerStep"), "span_id"]).all()
    assert run.data.frames["name"].str.contains("Linear").any()
    assert run.manifest.activity == "none"
    trace = json.loads(gzip.decompress(run.write_trace().read_bytes()))["traceEvents"]
    assert [event["name"] for event in trace if event.get("cat") == "user_annotation"] == [
        f"ProfilerStep#{step}" for step in range(3)
    ]
    assert sum(event["name"] == "my part" for event in trace) == 3


def with_a_collection(run: RunData) -> RunData:
    """The run with a garbage collection inside its first scheduler's step."""
    texts = run.spans.select_dtypes("category").columns
    spans = run.spans.astype(dict.fromkeys(texts, str))
    around = spans[spans["kind"] == SpanKind.SCHEDULER].iloc[0]
    took = (around["end_ns"] - around["start_ns"]) // 4
    row = {
        **around, "span_id": spans["span_id"].max() + 1, "parent_id": around["span_id"], "kind": SpanKind.GARBAGE.value,
        "name": "generation 2", "start_ns": around["start_ns"] + took, "end_ns": around["end_ns"] - took,
    }  # fmt: skip
    joined = pd.concat([spans, pd.DataFrame([row]).astype(spans.dtypes)], ignore_index=True)
    return dataclasses.replace(run, spans=joined.astype(dict.fromkeys(texts, "category")))


def test_a_trace_of_tracekits_own_gives_the_same_copies_and_steps_back(tmp_path: Path) -> None:
    original = build_timeline(with_a_collection(build_run(steps=4)))
    with (tmp_path / "trace.json.gz").open("wb") as file:
        write_chrome_trace(original, file)
    run = api.import_trace(tmp_path / "trace.json.gz", tmp_path / "run")
    again = run.timeline
    moved = int(original.spans["start_ns"].min() - again.spans["start_ns"].min())
    same = ["direction", "size_bytes", "fqn", "parameter", "operation", "host_memory", "file_path", "file_offset",
            "run_index", "step_index", "phase", "first", "thread_id", "duration_ns", "device_name", "correlation_id",
            "is_weight"]  # fmt: skip
    ours, theirs = (
        timeline.copies.sort_values(["start_ns", "fqn", "parameter"], ignore_index=True)
        for timeline in (original, again)
    )
    for name in same:
        pd.testing.assert_series_equal(ours[name].astype(str), theirs[name].astype(str), obj=name)
    for name in ("start_ns", "end_ns", "device_start_ns", "device_end_ns"):
        expected = ours[name].where(ours[name] == NONE, ours[name] - moved)
        pd.testing.assert_series_equal(expected, theirs[name], obj=name)
    assert (again.steps[["start_ns", "end_ns"]] + moved).equals(original.steps[["start_ns", "end_ns"]])
    assert again.denoisers == original.denoisers
    counts = [spans.groupby("kind", observed=True).size().to_dict() for spans in (original.spans, again.spans)]
    assert counts[0] == counts[1]
    collected = [spans.loc[spans["kind"] == SpanKind.GARBAGE] for spans in (original.spans, again.spans)]
    assert [rows["name"].tolist() for rows in collected] == [["generation 2"]] * 2
    assert (collected[0][["start_ns", "end_ns"]].to_numpy() - collected[1][["start_ns", "end_ns"]]).eq(moved).all(None)
    mine, theirs = original.run.host_samples, run.data.host_samples
    assert len(mine) > 0
    assert sorted(theirs["read_bytes"]) == sorted(mine["read_bytes"])
    assert np.allclose(sorted(theirs["resident_before"]), sorted(mine["resident_before"]), atol=1e-3)


def test_a_strangers_categories_are_not_taken_for_tracekits(tmp_path: Path) -> None:
    events = kineto_events()
    for category in ("forward", "run", "copy", "component"):
        events.append(events[3] | {"cat": category, "name": category, "args": {"direction": "H2D", "bytes": 1}})
    run = api.import_trace(write_trace(tmp_path / "x.json", events), tmp_path / "run")
    assert set(run.spans["kind"]) == {"annotation"}
    assert len(run.data.copies) == 0
    assert (run.manifest.pipeline_class, run.manifest.components) == ("", {})


BAD_EVENT = {"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": 1, "dur": 1, "args": {}}
REFUSED = {
    "empty": b"",
    "no JSON": b"hello",
    "no trace": b'{"a": []}',
    "no events": kineto_text([]).encode(),
    "only what is not imported": kineto_text([BAD_EVENT | {"cat": "cpu_op"}]).encode(),
    "cut off": kineto_text(kineto_events()).encode()[:-200],
    "cut off in the header": kineto_text(kineto_events()).encode()[:-2],
    "an event that is none": kineto_text([]).replace("[\n\n", "[1, 2").encode(),
    "a time out of range": kineto_text([BAD_EVENT | {"ts": 1e300}]).encode(),
    "a time near infinity": kineto_text([BAD_EVENT | {"ts": 1e308}]).encode(),
    "a time before the beginning": kineto_text([BAD_EVENT | {"ts": -5}]).encode(),
    "a duration out of range": kineto_text([BAD_EVENT | {"dur": 1e300}]).encode(),
    "a name that is a number": kineto_text([BAD_EVENT | {"name": 5}]).encode(),
    "nested too deeply": b'{"traceEvents": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    "half a gzip": gzip.compress(kineto_text(kineto_events()).encode())[:-30],
    "no gzip": b"\x1f\x8bnot gzip at all",
    "not UTF-8": kineto_text([BAD_EVENT]).replace('"k"', '"\udcff"').encode("utf-8", "surrogateescape"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_trace_is_one_line_and_leaves_nothing(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "x.json").write_bytes(data)
    assert main(["import", str(tmp_path / "x.json"), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_force_replaces_a_run_only_once_the_trace_was_read_whole(tmp_path: Path) -> None:
    first = api.import_trace(write_trace(tmp_path / "first.json.gz"), tmp_path / "run")
    damaged = tmp_path / "damaged.json.gz"
    damaged.write_bytes((tmp_path / "first.json.gz").read_bytes()[:-200])
    with pytest.raises(UsageError, match="exists already"):
        api.import_trace(damaged, first.path)
    with pytest.raises(UsageError, match="damaged"):
        api.import_trace(damaged, first.path, force=True)
    assert api.load(first.path).manifest.workload == "first.json.gz"
    second = api.import_trace(write_trace(tmp_path / "second.json.gz"), first.path, force=True)
    assert api.load(second.path).manifest.workload == "second.json.gz"
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"run"}


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no trace"):
        api.import_trace(tmp_path / "absent.json", tmp_path / "run")


def test_a_few_bytes_that_unpack_to_any_amount_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracestream, "MAX_TRACE_BYTES", 1 << 20)
    monkeypatch.setattr(tracestream, "PIECE_BYTES", 1 << 16)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b'{"traceEvents": [' + b" " * (2 << 20)))
    with pytest.raises(UsageError, match="larger than"):
        api.import_trace(path, tmp_path / "run")


def test_values_of_other_kinds_under_known_names_are_blank(tmp_path: Path) -> None:
    odd = {"device": "0", "stream": None, "correlation": 1e9, "bytes": [5], "fqn": {}, "run_index": True}
    run = api.import_trace(write_trace(tmp_path / "x.json", [BAD_EVENT | {"args": odd, "tid": "x"}]), tmp_path / "run")
    row = run.data.device_ops.iloc[0]
    assert (row["device_index"], row["stream_id"], row["correlation_id"], row["size_bytes"]) == (0, 0, NONE, NONE)


def test_the_command_reports_and_names_the_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(write_trace(tmp_path / "gpu.json")), "-o", str(tmp_path / "run")]) == 0
    said = capsys.readouterr()
    assert "NVIDIA H100" in said.out
    assert said.err.splitlines()[-1] == f"Next: tracekit export {tmp_path / 'run'}"
    assert main(["import", str(tmp_path / "gpu.json"), "-o", str(tmp_path / "run")]) == 2
