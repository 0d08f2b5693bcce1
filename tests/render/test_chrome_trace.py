from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from builders import START_NS, THREAD, build_run
from golden import assert_golden
from perfetto.lint import lint
from timelines import RUN_NS, bare_timeline, events_of, slices_of, tiny_timeline, trace_of

from tracekit.analysis.timeline import build_timeline
from tracekit.errors import UsageError
from tracekit.model import SpanKind, Timeline
from tracekit.model.text import text_of
from tracekit.render.chrome import write_chrome_trace


@pytest.fixture(scope="module")
def cuda() -> Timeline:
    return build_timeline(build_run())


def test_golden() -> None:
    stream = io.BytesIO()
    write_chrome_trace(tiny_timeline(), stream, compress=False)
    assert_golden("trace.json", stream.getvalue().decode())


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_everything_recorded_is_in_the_trace_and_nothing_is_bent(device: str) -> None:
    timeline = build_timeline(build_run(device=device, runs=2))
    data, stats = trace_of(timeline)
    report = lint(data)
    assert (report.errors, report.warnings) == ({}, {})
    run = timeline.run
    counts = Counter(event["cat"] for event in slices_of(data))
    assert counts == stats.slices
    for kind, count in run.spans["kind"].value_counts().items():
        assert counts[str(kind)] == count
    assert counts["copy"] == len(run.copies)
    assert counts["kernel"] + counts["gpu_memcpy"] == len(run.device_ops)
    assert counts["cuda_runtime"] == len(run.runtime_calls)
    assert counts["user_annotation"] == len(timeline.steps)
    assert stats.events == len(events_of(data))
    assert (stats.clipped_slices, stats.slices_in_extra_lanes, stats.backward_slices) == (0, 0, 0)


def test_the_same_run_gives_the_same_bytes(cuda: Timeline) -> None:
    assert trace_of(cuda)[0] == trace_of(build_timeline(build_run()))[0]


def test_runs_hold_steps_hold_components_hold_modules(cuda: Timeline) -> None:
    slices = slices_of(trace_of(cuda)[0])

    def path_to(name: str) -> list[str]:
        target = next(event for event in slices if event["name"] == name)
        around = [
            event for event in slices
            if event["tid"] == target["tid"] and event["ts"] <= target["ts"]
            and event["ts"] + event["dur"] >= target["ts"] + target["dur"] - 1e-6
        ]  # fmt: skip
        return [event["name"] for event in sorted(around, key=lambda event: -event["dur"])]

    assert path_to("transformer_blocks.1: Block") == [
        "FluxPipeline",
        "ProfilerStep#0",
        "transformer",
        "transformer: FluxTransformer2DModel",
        "transformer_blocks.1: Block",
    ]
    assert path_to("text_encoder: CLIPTextModel")[:3] == ["FluxPipeline", "encode", "text_encoder"]
    assert path_to("vae: AutoencoderKL")[:3] == ["FluxPipeline", "decode", "vae"]


def test_steps_count_on_over_several_runs() -> None:
    data, _ = trace_of(build_timeline(build_run(runs=2, steps=2)))
    steps = slices_of(data, "user_annotation")
    assert [event["name"] for event in steps] == [f"ProfilerStep#{number}" for number in range(4)]
    assert [event["args"] for event in steps[1:3]] == [
        {"step": "step 2 of 2", "run_index": 0, "step_index": 1},
        {"step": "step 1 of 2", "run_index": 1, "step_index": 0},
    ]


def test_device_copies_carry_kinetos_names_and_what_tracekit_knows(cuda: Timeline) -> None:
    copies = slices_of(trace_of(cuda)[0], "gpu_memcpy")
    weights = [event["args"] for event in copies if event["args"].get("parameter")]
    first = next(args for args in weights if args["fqn"] == "transformer.transformer_blocks.0.ff.proj")
    assert first == {
        "device": 0, "stream": 7, "correlation": first["correlation"], "bytes": 8_000_000,
        "memory bandwidth (GB/s)": 1.6, "host_memory": "mmap", "fqn": "transformer.transformer_blocks.0.ff.proj",
        "parameter": "weight", "cold_or_warm": "first and paged", "resident_before": 0.25, "read_bytes": 6_000_000,
        "operation": "Tensor.to", "phase": "denoise", "run_index": 0, "step_index": 0,
    }  # fmt: skip
    later = [args for args in weights if args["fqn"] == first["fqn"] and args["parameter"] == "weight"][1:]
    assert {args["cold_or_warm"] for args in later} == {"warm"}
    back = [event for event in copies if event["name"] == "Memcpy DtoH (Device -> Pageable)"]
    assert [event["args"]["phase"] for event in back] == ["decode"]


def test_a_copy_that_only_the_device_saw_says_which_call_made_it() -> None:
    op = {"op": "memcpy", "name": "Memcpy DtoH (Device -> Pageable)", "device_index": 0, "stream_id": 7,
          "start_ns": RUN_NS, "end_ns": RUN_NS + 1_000, "size_bytes": 4, "correlation_id": 9}  # fmt: skip
    copy = {"copy_id": -1, "direction": "D2H", "size_bytes": 4, "operation": "cudaMemcpyAsync", "is_weight": False,
            "device": "cuda:0", "device_start_ns": RUN_NS, "device_end_ns": RUN_NS + 1_000, "device_stream_id": 7,
            "correlation_id": 9, "thread_id": -1, "start_ns": RUN_NS, "end_ns": RUN_NS + 1_000}  # fmt: skip
    data, _ = trace_of(bare_timeline({"device_ops": [op], "copies": [copy]}))
    assert not slices_of(data, "copy")
    (shown,) = slices_of(data, "gpu_memcpy")
    assert (shown["args"]["operation"], shown["args"]["bytes"]) == ("cudaMemcpyAsync", 4)


def test_a_stream_that_only_copies_beside_one_that_computes_is_named_so() -> None:
    op = {"device_index": 0, "name": "k", "start_ns": RUN_NS, "end_ns": RUN_NS + 5}
    ops = [op | {"op": "kernel", "stream_id": 7}, op | {"op": "memcpy", "stream_id": 29}]
    names = {
        event["tid"]: event["args"]["name"]
        for event in events_of(trace_of(bare_timeline({"device_ops": ops}))[0])
        if event["name"] == "thread_name"
    }
    assert names == {7: "stream", 29: "copy stream"}


def test_an_onload_ahead_is_named_by_where_its_path_leaves_the_forward_around_it() -> None:
    block = "transformer.blocks.14"
    span = {"thread_id": THREAD, "run_index": 0}
    spans = [
        span | {"span_id": 0, "kind": "forward", "name": "Norm", "fqn": f"{block}.norm", "start_ns": RUN_NS,
                "end_ns": RUN_NS + 90},
        *(
            span | {"span_id": index, "parent_id": 0, "kind": "onload", "fqn": fqn, "start_ns": RUN_NS + 10 * index,
                    "end_ns": RUN_NS + 10 * index + 5}
            for index, fqn in enumerate((f"{block}.attn.to_q", "transformer.blocks.15.norm", f"{block}.norm",
                                         f"{block}.norm.linear", "vae"), 1)
        ),
    ]  # fmt: skip
    names = [event["name"] for event in slices_of(trace_of(bare_timeline({"spans": spans}))[0], "onload")]
    assert names == ["onload attn.to_q", "onload blocks.15.norm", "onload norm", "onload linear", "onload vae"]


def test_weights_in_page_locked_memory_are_warm_without_a_look() -> None:
    timeline = tiny_timeline()
    run = replace(timeline.run, host_samples=timeline.run.host_samples.iloc[:0])
    for memory, state in (("pinned", "warm"), ("anonymous", "not first")):
        copies = timeline.copies.assign(first=False, host_memory=text_of([memory]))
        (copy,) = slices_of(trace_of(replace(timeline, run=run, copies=copies))[0], "gpu_memcpy")
        assert copy["args"]["cold_or_warm"] == state


def test_kernels_name_the_module_that_launched_them(cuda: Timeline) -> None:
    kernels = Counter(event["args"]["launched_by"] for event in slices_of(trace_of(cuda)[0], "kernel"))
    assert kernels["transformer.transformer_blocks.0.attn.to_q"] == 3
    assert kernels["scheduler"] == 3


def test_an_arrow_leads_from_each_weight_copy_to_the_forward_of_its_module(cuda: Timeline) -> None:
    data, stats = trace_of(cuda)
    assert stats.flows == int(cuda.copies["is_weight"].sum())
    assert (stats.flows_left_out, stats.copies_for_nothing, stats.adjustments()) == (0, 0, "")
    events = events_of(data)
    ends = {(event["ph"], event["id"]): event for event in events if event["ph"] in ("s", "f")}
    slices = [event for event in events if event["ph"] == "X"]

    def innermost(point: dict[str, object]) -> dict[str, object]:
        around = [
            event for event in slices
            if (event["pid"], event["tid"]) == (point["pid"], point["tid"])
            and event["ts"] <= point["ts"] < event["ts"] + event["dur"]
        ]  # fmt: skip
        return min(around, key=lambda event: event["dur"])

    for number in range(1, stats.flows + 1):
        copy, forward = innermost(ends["s", number]), innermost(ends["f", number])
        assert (copy["cat"], forward["cat"]) == ("gpu_memcpy", "forward")
        assert copy["args"]["fqn"] == forward["args"]["fqn"]
        assert copy["ts"] < forward["ts"]


def test_only_steps_keeps_them_and_says_what_is_missing(cuda: Timeline) -> None:
    data, stats = trace_of(build_timeline(build_run(steps=5)), only_steps=[0, -1])
    assert lint(data).errors == {}
    assert stats.left_out_steps == 3
    assert [event["name"] for event in slices_of(data, "user_annotation")] == ["ProfilerStep#0", "ProfilerStep#4"]
    assert [event["name"] for event in slices_of(data, "left_out")] == [
        "left out",
        "left out: steps 1 to 3",
        "left out",
    ]
    assert {event["args"]["step_index"] for event in slices_of(data, "copy")} == {0, 4}
    assert {event["args"]["step_index"] for event in slices_of(data, "gpu_memcpy")} == {0, 4}
    names = [event["args"]["name"] for event in events_of(data) if event["name"] == "process_name"]
    assert any("3 steps left out" in name for name in names)
    whole, _ = trace_of(build_timeline(build_run(steps=5)))
    kept = [slice_ for slice_ in slices_of(whole, "forward") if slice_["args"].get("step_index") in (0, 4)]
    assert len(slices_of(data, "forward")) == len(kept)


@pytest.mark.parametrize(("steps", "text"), [([9], "has steps 0 to 2"), ([], "steps none"), ([-4], "has steps 0 to 2")])
def test_steps_that_are_not_there_are_refused(cuda: Timeline, steps: list[int], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        trace_of(cuda, only_steps=steps)


def test_a_run_without_steps_has_none_to_keep() -> None:
    with pytest.raises(UsageError, match="recorded no step"):
        trace_of(bare_timeline({}), only_steps=[0])


def test_a_killed_run_is_whole_without_its_run_span() -> None:
    run = build_run(complete=False, incomplete_reason="killed")
    run = replace(run, spans=run.spans[run.spans["kind"] != SpanKind.RUN].reset_index(drop=True))
    data, _ = trace_of(build_timeline(run))
    assert lint(data).errors == {}
    (cut,) = slices_of(data, "run")
    assert (cut["name"], cut["args"]["note"]) == ("FluxPipeline", "cut off: the process ended in it")
    assert any("incomplete" in event["args"].get("name", "") for event in events_of(data) if event["ph"] == "M")


def test_without_device_records_arrows_leave_the_host_copies(cuda: Timeline) -> None:
    run = build_run(activity="none")
    run = replace(run, device_ops=run.device_ops.iloc[:0], runtime_calls=run.runtime_calls.iloc[:0])
    data, stats = trace_of(build_timeline(run))
    assert lint(data).errors == {}
    assert stats.flows == int(cuda.copies["is_weight"].sum())
    assert not slices_of(data, "gpu_memcpy")


def test_everything_emulated_says_so() -> None:
    data, _ = trace_of(build_timeline(build_run(device="emulated")))
    names = [event["args"]["name"] for event in events_of(data) if event["name"] == "process_name"]
    assert len(names) == 2
    assert all("emulated" in name for name in names)


def test_an_empty_run_is_a_valid_trace() -> None:
    data, stats = trace_of(bare_timeline({}))
    assert lint(data).errors == {}
    assert sum(stats.slices.values()) == 0


def test_two_kernels_at_a_time_on_one_stream_take_two_tracks() -> None:
    kernel = {"op": "kernel", "name": "k", "device_index": 0, "stream_id": 7}
    ops = [kernel | {"start_ns": RUN_NS + at, "end_ns": RUN_NS + at + 10} for at in (0, 5, 9)]
    data, stats = trace_of(bare_timeline({"device_ops": ops}))
    assert lint(data).errors == {}
    assert stats.slices_in_extra_lanes == 2
    names = [event["args"]["name"] for event in events_of(data) if event["name"] == "thread_name"]
    assert names == ["stream", "stream 7 (overlapping, lane 2)", "stream 7 (overlapping, lane 3)"]


def test_a_call_off_by_the_clocks_error_is_clipped_and_counted_and_one_off_by_more_gets_a_lane() -> None:
    span = {
        "span_id": 1,
        "kind": "onload",
        "fqn": "a",
        "thread_id": THREAD,
        "start_ns": RUN_NS,
        "end_ns": RUN_NS + 9_000,
    }
    calls = [
        {"name": "cudaMemcpyAsync", "thread_id": THREAD, "start_ns": RUN_NS - 500, "end_ns": RUN_NS + 1_000},
        {"name": "cudaFree", "thread_id": THREAD, "start_ns": RUN_NS + 5_000, "end_ns": RUN_NS + 20_000},
    ]
    data, stats = trace_of(bare_timeline({"spans": [span], "runtime_calls": calls}))
    assert lint(data).errors == {}
    assert (stats.clipped_slices, stats.clipped_max_ns, stats.slices_in_extra_lanes) == (1, 500, 1)
    assert stats.adjustments() == (
        "1 call moved by up to 500 ns, the clocks' error; 1 slice on an extra track for overlapping another"
    )
    assert {event["name"]: event["dur"] for event in slices_of(data, "cuda_runtime")} == {
        "cudaMemcpyAsync": 1.0,
        "cudaFree": 15.0,
    }


def test_a_host_that_ran_ahead_has_its_arrows_end_in_the_kernel_that_waited() -> None:
    timeline = tiny_timeline()
    ops, calls = timeline.run.device_ops.copy(), timeline.run.runtime_calls
    # The copy is done, and the kernel runs, long after the host left the forward.
    ops["start_ns"] += 50_000
    ops["end_ns"] += 50_000
    copies = timeline.copies.assign(device_start_ns=ops["start_ns"].iloc[0], device_end_ns=ops["end_ns"].iloc[0])
    late = replace(timeline, copies=copies, run=replace(timeline.run, device_ops=ops, runtime_calls=calls))
    data, stats = trace_of(late)
    assert stats.flows == 1
    (end,) = [event for event in events_of(data) if event["ph"] == "f"]
    (kernel,) = slices_of(data, "kernel")
    assert (end["pid"], end["tid"]) == (kernel["pid"], kernel["tid"])
    assert kernel["ts"] < end["ts"] < kernel["ts"] + kernel["dur"]
    without = replace(late, run=replace(late.run, device_ops=ops[ops["op"] == "memcpy"]))
    stats = trace_of(without)[1]
    assert stats.flows_left_out == 1
    assert stats.adjustments() == "1 arrow left out for want of a later kernel of the forward to point to"


def test_a_copy_that_was_for_nothing_has_no_arrow() -> None:
    timeline = tiny_timeline()
    again = timeline.copies.assign(copy_id=1, device_start_ns=-1, device_end_ns=-1, correlation_id=-1)
    again["start_ns"] -= 50
    again["end_ns"] = again["start_ns"] + 10
    both = replace(timeline, copies=pd.concat([again, timeline.copies], ignore_index=True))
    stats = trace_of(both)[1]
    assert (stats.flows, stats.copies_for_nothing, stats.flows_left_out) == (1, 1, 0)


def test_python_frames_have_a_track_of_their_own() -> None:
    frames = [
        {"name": "forward (a.py:1)", "thread_id": THREAD, "start_ns": START_NS + at, "end_ns": START_NS + end}
        for at, end in ((0, 100), (10, 20), (50, 120))
    ]
    data, stats = trace_of(bare_timeline({"frames": frames}))
    assert lint(data).errors == {}
    assert stats.slices_in_extra_lanes == 1
    names = {event["args"]["name"] for event in events_of(data) if event["name"] == "thread_name"}
    assert names == {"main: Python frames", "main: Python frames (overlapping, lane 2)"}


def test_hostile_strings_and_ids_change_nothing_but_themselves() -> None:
    hostile = [
        'quote " back \\ slash',
        "line\nfeed\ttab\0nul",
        "emoji \U0001f600",
        "lone \ud83d surrogate",
        "x" * 1_000_000,
    ]
    spans = [
        {"span_id": index, "kind": "forward", "name": text, "fqn": text, "note": text, "thread_id": thread,
         "start_ns": RUN_NS + index, "end_ns": RUN_NS + 100 - index}
        for index, (text, thread) in enumerate(zip(hostile, (2**40, 0, -5, THREAD, 2**31), strict=True))
    ]  # fmt: skip
    ops = [
        {"op": "kernel", "name": text, "device_index": 0, "stream_id": stream, "start_ns": RUN_NS, "end_ns": RUN_NS + 5}
        for text, stream in zip(hostile, (0, 2**40, -7, 2**31, 1), strict=True)
    ]
    data, stats = trace_of(bare_timeline({"spans": spans, "device_ops": ops}))
    report = lint(data)
    assert (report.errors, report.warnings) == ({}, {})
    assert (stats.slices["forward"], stats.slices["kernel"]) == (5, 5)
    tracks = {(event["pid"], event["tid"]) for event in slices_of(data)}
    assert len(tracks) == 10


def test_backward_rows_and_endless_counters_are_counted_not_lost_silently() -> None:
    rows = {
        "spans": [{"span_id": 1, "kind": "setup", "thread_id": THREAD, "start_ns": RUN_NS, "end_ns": RUN_NS - 5}],
        "counters": [
            {"series": "nvml_power_watts", "device_index": 0, "t_ns": RUN_NS, "value": value}
            for value in (1.0, float("nan"), float("inf"))
        ],
    }  # fmt: skip
    data, stats = trace_of(bare_timeline(rows))
    assert lint(data).errors == {}
    assert (stats.backward_slices, stats.counter_samples_not_finite, stats.counter_samples) == (1, 2, 1)
    assert "2 counter samples left out for being no number" in stats.adjustments()
    assert [event["dur"] for event in slices_of(data, "setup")] == [0.0]


def test_the_header_is_kinetos(cuda: Timeline) -> None:
    stream = io.BytesIO()
    write_chrome_trace(cuda, stream, compress=False)
    document = json.loads(stream.getvalue())
    assert document["schemaVersion"] == 1
    assert document["deviceProperties"][0]["name"] == "NVIDIA H100 80GB HBM3"
    # The first event is where the process began.
    assert document["baseTimeNanoseconds"] == cuda.run.manifest.clock.epoch_ns
    assert min(event["ts"] for event in document["traceEvents"] if event["ph"] != "M") == 0
