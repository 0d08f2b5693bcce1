"""Copies join the device's record of them, and what only one side saw stays visible."""

import pytest
from builders import START_NS, build_run, make_manifest, make_run

from tracekit.analysis import build_timeline
from tracekit.model import NONE, ClockInfo


def copy(copy_id, start, end, size=100, direction="H2D", thread=1, **more):
    row = {"copy_id": copy_id, "start_ns": start, "end_ns": end, "size_bytes": size, "direction": direction}
    return row | {"thread_id": thread, "operation": "Tensor.to", "host_memory": "mmap", "run_index": 0} | more


def op(correlation, start, end, size=100, name="Memcpy HtoD (Pageable -> Device)"):
    row = {"op": "memcpy", "name": name, "start_ns": start, "end_ns": end, "size_bytes": size, "device_index": 0}
    return row | {"stream_id": 7, "correlation_id": correlation}


def call(correlation, start, end, thread=1, name="cudaMemcpyAsync"):
    return {"correlation_id": correlation, "start_ns": start, "end_ns": end, "thread_id": thread, "name": name}


def copies_of(copies, ops, calls=(), error_ns=0):
    manifest = make_manifest(clock=ClockInfo(monotonic_ns=0, epoch_ns=0, alignment_error_ns=error_ns))
    spans = [{"span_id": 3, "kind": "run", "thread_id": 1, "run_index": 0, "start_ns": 0, "end_ns": 10_000}]
    tables = {"spans": spans, "copies": copies, "device_ops": ops, "runtime_calls": calls}
    return build_timeline(make_run(tables, manifest)).copies


def device_times(frame) -> list[tuple[int, int]]:
    return list(zip(frame["device_start_ns"], frame["device_end_ns"], strict=True))


def test_a_copy_has_its_records_times_wherever_the_device_ran_it():
    frame = copies_of([copy(0, 100, 200)], [op(5, 900, 950)], [call(5, 150, 160)])
    assert device_times(frame) == [(900, 950)]
    joined = frame[["duration_ns", "device_stream_id", "correlation_id", "device_name"]]
    assert joined.iloc[0].tolist() == [50, 7, 5, "Memcpy HtoD (Pageable -> Device)"]


def test_a_copy_without_a_record_keeps_its_hosts_duration():
    frame = copies_of([copy(0, 100, 170)], [])
    assert device_times(frame) == [(NONE, NONE)]
    assert frame[["duration_ns", "device_stream_id", "correlation_id", "device_name"]].iloc[0].tolist() == [
        70,
        NONE,
        NONE,
        "",
    ]


@pytest.mark.parametrize(
    ("record", "runtime"),
    [
        (op(5, 900, 950, size=99), call(5, 150, 160)),  # other bytes
        (op(5, 900, 950, name="Memcpy DtoH (Device -> Pageable)"), call(5, 150, 160)),  # other direction
        (op(5, 900, 950), call(5, 150, 160, thread=2)),  # other thread
        (op(5, 900, 950), call(5, 250, 260)),  # after the call
    ],
)
def test_what_does_not_agree_stays_apart(record, runtime):
    frame = copies_of([copy(0, 100, 200)], [record], [runtime])
    assert frame["copy_id"].tolist() == [0, NONE]
    assert device_times(frame) == [(NONE, NONE), (900, 950)]


def test_what_only_the_device_saw_is_a_row_of_its_own():
    frame = copies_of([], [op(5, 900, 950, name="Memcpy DtoH (Device -> Pinned)")], [call(5, 150, 160)])
    row = frame.iloc[0]
    assert row[["copy_id", "fqn", "operation", "direction", "host_memory", "device"]].tolist() == [
        NONE, "", "cudaMemcpyAsync", "D2H", "pinned", "cuda:0",
    ]  # fmt: skip
    assert row[["span_id", "run_index", "start_ns", "end_ns", "duration_ns"]].tolist() == [3, 0, 150, 160, 50]
    assert not row["is_weight"]


def test_copies_within_the_device_are_not_the_links():
    assert len(copies_of([], [op(5, 900, 950, name="Memcpy DtoD (Device -> Device)")], [call(5, 150, 160)])) == 0


def test_a_record_moved_out_of_its_call_by_the_clocks_error_is_found():
    calls = [copy(0, 100, 200), copy(1, 210, 300)]
    early = copies_of(calls, [op(5, 900, 950)], [call(5, 97, 98)], error_ns=5)
    assert device_times(early) == [(900, 950), (NONE, NONE)]
    assert device_times(copies_of(calls, [op(5, 900, 950)], [call(5, 97, 98)], error_ns=2))[:2] == [(NONE, NONE)] * 2
    # Between the two calls either could be meant: the one that has no record yet takes it.
    late = copies_of(calls, [op(5, 900, 950), op(6, 960, 990)], [call(5, 150, 160), call(6, 207, 209)], error_ns=5)
    assert device_times(late) == [(900, 950), (960, 990)]


def test_a_copy_made_in_parts_has_all_of_them():
    ops = [op(5, 900, 950, size=60), op(6, 970, 990, size=40)]
    frame = copies_of([copy(0, 100, 200)], ops, [call(5, 110, 120), call(6, 130, 140)])
    assert device_times(frame) == [(900, 990)]
    assert frame[["duration_ns", "correlation_id"]].iloc[0].tolist() == [70, 5]


def test_of_parts_that_do_not_add_up_the_one_with_the_bytes_is_the_copy():
    ops = [op(5, 900, 910, size=4), op(6, 920, 950), op(7, 960, 990)]
    calls = [call(5, 110, 111), call(6, 120, 121), call(7, 130, 131)]
    frame = copies_of([copy(0, 100, 200)], ops, calls)
    assert frame["copy_id"].tolist() == [0, NONE, NONE]
    assert frame["correlation_id"].tolist() == [6, 5, 7]


def test_calls_of_threads_at_once_are_told_apart():
    copies = [copy(0, 100, 200, thread=1), copy(1, 110, 190, thread=2)]
    frame = copies_of(copies, [op(5, 300, 310), op(6, 320, 330)], [call(5, 150, 151, 2), call(6, 152, 153, 1)])
    assert device_times(frame) == [(320, 330), (300, 310)]


def test_a_record_without_a_call_joins_by_its_own_time():
    assert device_times(copies_of([copy(0, 100, 200)], [op(NONE, 150, 160)])) == [(150, 160)]


def test_the_first_onload_of_each_parameter_is_marked_once_in_a_process():
    copies = [
        copy(0, 300, 310, fqn="a", parameter="weight"),
        copy(1, 100, 110, fqn="a", parameter="weight"),
        copy(2, 200, 210, fqn="a", parameter="bias"),
        copy(3, 50, 60, direction="D2H", fqn="a", parameter="weight"),
        copy(4, 40, 45),
    ]
    frame = copies_of(copies, [])
    assert frame["first"].tolist() == [False, True, True, False, False]
    assert frame["is_weight"].tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_every_copy_of_a_built_run_has_its_record(device):
    run = build_run(device=device, runs=2)
    frame = build_timeline(run).copies
    memcpys = run.device_ops[run.device_ops["op"] == "memcpy"]
    assert len(frame) == len(memcpys) == len(run.copies)
    assert sorted(frame["correlation_id"]) == sorted(memcpys["correlation_id"])
    assert frame["duration_ns"].sum() == (memcpys["end_ns"] - memcpys["start_ns"]).sum()
    assert frame["first"].sum() == len(run.parameters)
    assert (frame["device_start_ns"] > START_NS).all()
