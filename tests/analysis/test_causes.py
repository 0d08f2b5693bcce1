"""Causes close on any timeline, and are what was built on runs whose causes are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from builders import COLD_BYTES_PER_US, MS, US, WARM_BYTES_PER_US, Row, build_run, make_frame, make_manifest, make_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.model import CALIBRATION, NONE, Cause, Evidence, Measure, RunData, Summary

PINNED_BYTES_PER_US = 50_000
SIZES = (100_000, 1_000_000, 10_000_000)


def calibrated(run: RunData, **bytes_per_us: int) -> RunData:
    """The run with a calibration: each measure, by its member's name, has the same rate at every size."""
    rows: list[Row] = [
        {"measure": str(Measure[name]), "size_bytes": size, "duration_ns": size * US // rate}
        for name, rate in bytes_per_us.items()
        for size in SIZES
        for _ in range(3)
    ]
    return dataclasses.replace(run, calibration=make_frame(CALIBRATION, rows))


def with_samples(run: RunData, **values: Any) -> RunData:
    return dataclasses.replace(run, host_samples=run.host_samples.assign(**values))


def summary_of(run: RunData) -> Summary:
    return summarize(build_timeline(run))


def causes(summary: Summary, step: int, run: int = 0) -> dict[Cause, int]:
    rows = [row for row in summary.causes if (row.run_index, row.step_index) == (run, step)]
    assert len({row.cause for row in rows}) == len(rows)
    return {row.cause: row.duration_ns for row in rows}


def assert_closes(summary: Summary) -> None:
    for step in summary.steps:
        parts = causes(summary, step.step_index, step.run_index)
        if parts:
            assert Cause.UNATTRIBUTED in parts
            assert sum(parts.values()) == step.wall_ns
            assert min(parts.values()) >= 0


TIMES = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 80)), max_size=7)
CALLS = ("cudaMalloc", "cudaFree", "cudaStreamSynchronize", "cuLibraryLoadData", "cudaLaunchKernel")


def random_tables(
    copies: Sequence[tuple[int, int]],
    kernels: Sequence[tuple[int, int]],
    calls: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
) -> dict[str, list[Row]]:
    own = {"thread_id": 1, "run_index": 0}
    kinds = ("tracekit", "onload", "offload", "forward", "empty_cache", "synchronize", "garbage collection")
    memories = ("mmap", "anonymous", "pinned", "unknown")
    rows: list[Row] = [
        own | {"span_id": 0, "parent_id": NONE, "kind": "run", "start_ns": 0, "end_ns": 500},
        own | {"span_id": 1, "parent_id": 0, "kind": "forward", "fqn": "unet", "start_ns": 1, "end_ns": 5},
        *(
            own | {"span_id": 2 + i, "parent_id": 0, "kind": "scheduler", "start_ns": end - 9, "end_ns": end}
            for i, end in enumerate((150, 290, 430))
        ),
        *(
            own | {"span_id": 10 + i, "parent_id": 0, "kind": kinds[i % 7], "start_ns": s, "end_ns": s + n}
            for i, (s, n) in enumerate(spans)
        ),
    ]
    return {
        "spans": rows,
        "copies": [
            own
            | {"copy_id": i, "direction": ("H2D", "D2H")[i % 3 == 2], "size_bytes": 10 * n, "start_ns": s}
            | {"end_ns": s + n, "fqn": "unet.a", "parameter": "w", "host_memory": memories[i % 4]}
            for i, (s, n) in enumerate(copies)
        ],
        "host_samples": [
            {"copy_id": i, "resident_before": (0.0, 1.0, 0.5)[i % 3], "read_bytes": 10 * n * (i % 2), "probe_ns": 2}
            for i, (_, n) in enumerate(copies[::2])
        ],
        "device_ops": [
            {"op": "kernel", "name": "k", "start_ns": s, "end_ns": s + n, "correlation_id": 100 + i}
            for i, (s, n) in enumerate(kernels)
        ],
        "runtime_calls": [
            {"name": CALLS[i % 5], "thread_id": 1, "start_ns": s, "end_ns": s + n, "correlation_id": 100 + i}
            for i, (s, n) in enumerate(calls)
        ],
    }


@settings(max_examples=15)
@given(copies=TIMES, kernels=TIMES, calls=TIMES, spans=TIMES, rate=st.sampled_from([0, 1, 20]), rng=st.randoms())
def test_causes_close_on_any_timeline_in_any_order_of_rows(copies, kernels, calls, spans, rate, rng) -> None:
    tables = random_tables(copies, kernels, calls, spans)
    run = make_run(tables)
    if rate:
        run = calibrated(run, PINNED_H2D=1000 * rate, PAGEABLE_H2D=500 * rate, MAP_PAGES=900, DISK_READ=100)
    summary = summary_of(run)
    assert len(summary.steps) == 3
    assert_closes(summary)
    for rows in tables.values():
        rng.shuffle(rows)
    shuffled = dataclasses.replace(make_run(tables), calibration=run.calibration)
    again = summary_of(shuffled)
    assert again.causes == summary.causes
    assert again.transfers == summary.transfers
    assert again.paging == summary.paging


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_a_built_run_closes_in_steps_and_phases(device: str) -> None:
    summary = summary_of(build_run(device=device, runs=2))
    assert summary.causes
    assert_closes(summary)
    for phase in summary.phases:
        rows = [row for row in summary.phase_causes if (row.run_index, row.phase) == (phase.run_index, phase.phase)]
        if phase.phase in ("encode", "decode"):
            assert sum(row.duration_ns for row in rows) == phase.wall_ns
    # A set-up in which nothing was copied has no device record: its loading is nobody's guess.
    assert {row.phase for row in summary.phase_causes} == {"encode", "decode"}


def test_link_and_staging_of_a_warm_copy_are_told_apart_by_the_pinned_ceiling() -> None:
    summary = summary_of(calibrated(build_run(steps=3), PINNED_H2D=PINNED_BYTES_PER_US))
    parts = causes(summary, 1)
    bytes_moved = summary.steps[1].h2d_bytes
    # A little of the copies is hidden behind kernels.
    assert parts[Cause.LINK] == pytest.approx(bytes_moved * US / PINNED_BYTES_PER_US, rel=0.05)
    # The driver stages inside the call, which is a little longer than the record.
    assert parts[Cause.LINK] + parts[Cause.STAGING] == pytest.approx(bytes_moved * US / WARM_BYTES_PER_US, rel=0.05)
    assert Cause.DISK not in parts
    found = {row.cause: row.evidence for row in summary.causes}
    assert found[Cause.LINK] is found[Cause.STAGING] is Evidence.INFERRED
    assert found[Cause.COMPUTE] is Evidence.MEASURED


def test_without_a_calibration_the_link_holds_all_of_a_warm_copy_and_says_so() -> None:
    summary = summary_of(build_run(steps=3))
    assert Cause.STAGING not in causes(summary, 1)
    row = next(row for row in summary.causes if row.cause is Cause.LINK)
    assert row.evidence is Evidence.INFERRED
    assert "no pinned ceiling" in row.reason


def test_what_a_paged_copy_takes_beyond_a_warm_one_is_disk_less_mapping() -> None:
    bytes_moved = summary_of(build_run()).steps[0].h2d_bytes
    beyond = bytes_moved * US * (1 / COLD_BYTES_PER_US - 1 / WARM_BYTES_PER_US)
    plain = causes(summary_of(build_run()), 0)
    assert plain[Cause.DISK] == pytest.approx(beyond, rel=0.03)
    assert Cause.MAPPING not in plain
    mapped = causes(summary_of(calibrated(build_run(), MAP_PAGES=10_000)), 0)
    assert mapped[Cause.MAPPING] == pytest.approx(bytes_moved * US / 10_000, rel=0.03)
    assert mapped[Cause.DISK] + mapped[Cause.MAPPING] == pytest.approx(plain[Cause.DISK], abs=2 * US)


def test_reading_its_bytes_at_the_disks_ceiling_is_the_least_that_disk_gets() -> None:
    run = calibrated(build_run(), MAP_PAGES=100, DISK_READ=2_000)
    parts = causes(summary_of(run), 0)
    read = summary_of(run).paging.first_read_bytes * 0.727  # the transformer's share of the bytes
    assert parts[Cause.DISK] == pytest.approx(read * US / 2_000, rel=0.05)


def test_a_slow_first_copy_whose_pages_were_in_memory_is_mapping_or_staging_never_disk() -> None:
    cached = with_samples(build_run(), resident_before=1.0, read_bytes=0)
    assert Cause.DISK not in causes(summary_of(cached), 0)
    assert causes(summary_of(cached), 0)[Cause.MAPPING] > 10 * MS
    up_to = calibrated(cached, PINNED_H2D=PINNED_BYTES_PER_US, MAP_PAGES=10_000)
    parts = causes(summary_of(up_to), 0)
    assert parts[Cause.MAPPING] == pytest.approx(summary_of(up_to).steps[0].h2d_bytes * US / 10_000, rel=0.03)
    assert parts[Cause.STAGING] > parts[Cause.MAPPING]
    touched = with_samples(cached, minor_faults=0)
    assert Cause.MAPPING not in causes(summary_of(touched), 0)


def test_pages_read_ahead_count_as_disk_though_they_were_resident_at_their_copy() -> None:
    run = build_run()
    copies = build_timeline(run).copies
    step = copies[copies["first"] & (copies["step_index"] == 0)]
    asked = (run.host_samples["copy_id"] == step["copy_id"].iloc[0]).astype(int)
    ahead = with_samples(run, resident_before=1.0, read_bytes=asked * int(step["size_bytes"].sum()))
    parts = causes(summary_of(calibrated(ahead, MAP_PAGES=10_000)), 0)
    assert parts[Cause.DISK] == pytest.approx(12 * MS - step["size_bytes"].sum() * US / 10_000, rel=0.03)


def test_anonymous_memory_shows_neither_disk_nor_mapping() -> None:
    run = build_run()
    moved = run.copies.assign(host_memory=make_frame_text("anonymous", len(run.copies)))
    summary = summary_of(dataclasses.replace(run, copies=moved))
    assert not {Cause.DISK, Cause.MAPPING} & set(causes(summary, 0))


def make_frame_text(text: str, count: int) -> Any:
    from tracekit.model.text import same_text

    return same_text(text, count)


def test_pinned_copies_are_the_links_alone_and_measured() -> None:
    run = build_run()
    moved = run.copies.assign(host_memory=make_frame_text("pinned", len(run.copies)))
    summary = summary_of(calibrated(dataclasses.replace(run, copies=moved), PINNED_H2D=PINNED_BYTES_PER_US))
    parts = causes(summary, 1)
    assert Cause.STAGING in parts or Cause.LINK in parts
    assert not {Cause.DISK, Cause.MAPPING} & set(causes(summary, 0))


def test_the_emulated_devices_link_has_no_staging() -> None:
    summary = summary_of(calibrated(build_run(device="emulated"), PAGEABLE_H2D=16_000))
    assert not any(row.cause is Cause.STAGING for row in summary.causes)
    warm = [row for row in summary.causes if row.step_index == 1 and row.cause is Cause.LINK]
    assert [row.evidence for row in warm] == [Evidence.MEASURED]


def one_step(spans: Sequence[Row] = (), calls: Sequence[Row] = (), ops: Sequence[Row] = (), **manifest: Any) -> Any:
    """The causes of one step of 10 ms, in ms; a kernel runs in its first."""
    own = {"thread_id": 1, "run_index": 0, "parent_id": 0}
    rows = [
        own | {"span_id": 0, "parent_id": NONE, "kind": "run", "start_ns": 0, "end_ns": 20 * MS},
        own | {"span_id": 1, "kind": "onload", "fqn": "unet", "start_ns": 0, "end_ns": 0},
        own | {"span_id": 2, "kind": "forward", "fqn": "unet", "start_ns": 0, "end_ns": MS},
        own | {"span_id": 3, "kind": "scheduler", "start_ns": 10 * MS, "end_ns": 10 * MS},
        *(own | {"span_id": 4 + i} | span for i, span in enumerate(spans)),
    ]
    kernel = {"op": "kernel", "name": "k", "start_ns": 0, "end_ns": MS, "correlation_id": 1}
    launch = {"name": "cudaLaunchKernel", "thread_id": 1, "start_ns": 0, "end_ns": 1, "correlation_id": 1}
    tables = {
        "spans": rows,
        "device_ops": [kernel, *ops],
        "runtime_calls": [launch, *({"thread_id": 1} | c for c in calls)],
    }
    summary = summary_of(make_run(tables, make_manifest(**manifest)))
    return {cause: ns / MS for cause, ns in causes(summary, 0).items() if ns}


LEFT = Cause.UNATTRIBUTED


def span(kind: str, start: int, end: int) -> Row:
    return {"kind": kind, "fqn": "unet", "start_ns": start * MS, "end_ns": end * MS}


def call(name: str, start: int, end: int, **more: Any) -> Row:
    return {"name": name, "start_ns": start * MS, "end_ns": end * MS} | more


COLLECTION = {"kind": "garbage collection", "name": "generation 2", "start_ns": 2 * MS, "end_ns": 6 * MS}


@pytest.mark.parametrize(
    ("spans", "calls", "expected"),
    [
        ([], [], {LEFT: 9}),
        ([span("forward", 1, 4)], [], {Cause.MODEL: 3, LEFT: 6}),
        ([span("onload", 1, 4), span("forward", 1, 9)], [], {Cause.HOOKS: 3, Cause.MODEL: 5, LEFT: 1}),
        ([span("offload", 1, 9)], [call("cudaFree", 2, 4)], {Cause.HOOKS: 6, Cause.ALLOCATION: 2, LEFT: 1}),
        ([span("empty_cache", 1, 3)], [], {Cause.ALLOCATION: 2, LEFT: 7}),
        ([], [call("cudaHostAlloc", 1, 3)], {Cause.ALLOCATION: 2, LEFT: 7}),
        ([], [call("cuMemMap", 1, 3)], {Cause.ALLOCATION: 2, LEFT: 7}),
        ([], [call("cudaStreamSynchronize", 0, 3)], {Cause.WAITING: 2, LEFT: 7}),
        ([span("synchronize", 0, 5)], [], {Cause.WAITING: 4, LEFT: 5}),
        ([span("forward", 0, 9)], [call("cuLibraryLoadData", 2, 5)], {Cause.FIRST_USE: 3, Cause.MODEL: 5, LEFT: 1}),
        ([span("tracekit", 2, 5), span("onload", 1, 9)], [], {Cause.TRACEKIT: 3, Cause.HOOKS: 5, LEFT: 1}),
        ([COLLECTION, span("onload", 1, 4), span("forward", 1, 9)], [],
         {Cause.GARBAGE: 4, Cause.HOOKS: 1, Cause.MODEL: 3, LEFT: 1}),
        ([COLLECTION], [call("cudaMalloc", 2, 3)], {Cause.GARBAGE: 3, Cause.ALLOCATION: 1, LEFT: 5}),
        ([COLLECTION, span("tracekit", 1, 7)], [], {Cause.TRACEKIT: 6, LEFT: 3}),
        # One on another thread has the interpreter's lock.
        ([COLLECTION | {"thread_id": 2, "parent_id": NONE}], [], {Cause.GARBAGE: 4, LEFT: 5}),
        # Another thread's calls keep nobody waiting.
        ([], [call("cudaMalloc", 1, 3) | {"thread_id": 2}], {LEFT: 9}),
    ],
)  # fmt: skip
def test_each_kind_of_host_time(spans: list[Row], calls: list[Row], expected: dict[Cause, float]) -> None:
    assert one_step(spans, calls) == {Cause.COMPUTE: 1} | expected


def test_a_kernels_first_launch_that_is_far_longer_than_its_later_ones_is_first_use() -> None:
    kernels = [
        {"op": "kernel", "name": "lazy", "start_ns": at * MS, "end_ns": at * MS, "correlation_id": at}
        for at in (2, 7, 8)
    ]
    launches = [call("cudaLaunchKernel", 2, 6, correlation_id=2)]
    launches += [
        {"name": "cudaLaunchKernel", "start_ns": at * MS, "end_ns": at * MS + US, "correlation_id": at} for at in (7, 8)
    ]
    parts = one_step(calls=launches, ops=kernels)
    assert parts[Cause.FIRST_USE] == pytest.approx(4, abs=0.01)


def test_model_code_that_step_1_has_beyond_later_steps_is_first_use() -> None:
    own = {"thread_id": 1, "run_index": 0, "parent_id": 0}
    spans = [own | {"span_id": 0, "parent_id": NONE, "kind": "run", "start_ns": 0, "end_ns": 40 * MS}]
    ops = []
    for step, (start, length) in enumerate(((0, 9), (10, 2), (20, 4))):
        at = start * MS
        spans += [
            own
            | {"span_id": 10 * step + 1, "kind": "forward", "fqn": "unet", "start_ns": at, "end_ns": at + length * MS},
            own | {"span_id": 10 * step + 2, "kind": "scheduler", "start_ns": at + 10 * MS, "end_ns": at + 10 * MS},
        ]
        ops.append({"op": "kernel", "name": "k", "start_ns": at + 9 * MS, "end_ns": at + 10 * MS})
    summary = summary_of(make_run({"spans": spans, "device_ops": ops}))
    assert causes(summary, 0)[Cause.MODEL] == 3 * MS
    assert causes(summary, 0)[Cause.FIRST_USE] == 6 * MS
    assert causes(summary, 1)[Cause.MODEL] == 2 * MS
    assert_closes(summary)


def test_what_step_1_collected_is_no_first_use() -> None:
    parts = one_step([span("forward", 1, 9), COLLECTION])
    assert (parts[Cause.GARBAGE], parts.get(Cause.FIRST_USE, 0), parts[Cause.MODEL]) == (4, 0, 4)


def test_the_probes_of_host_memory_are_tracekits() -> None:
    # On CUDA kernels still run beside most of them; the emulated device is idle meanwhile.
    run = build_run(device="emulated")
    probed = with_samples(run, probe_ns=500)
    assert causes(summary_of(probed), 1)[Cause.TRACEKIT] > 5 * US
    assert Cause.TRACEKIT not in causes(summary_of(run), 1)


def test_steps_without_a_device_record_have_no_causes() -> None:
    assert summary_of(build_run(activity="none")).causes == []
    assert summary_of(build_run(activity="cuda-events")).causes == []
    run = build_run(steps=4, complete=False)
    half = run.device_ops["start_ns"].median()
    killed = summary_of(dataclasses.replace(run, device_ops=run.device_ops[run.device_ops["start_ns"] < half]))
    told = {row.step_index for row in killed.causes}
    assert 0 in told
    assert len(told) < 4


def test_a_copy_above_the_links_ceiling_is_told_as_a_defect() -> None:
    slow = calibrated(build_run(), PINNED_H2D=WARM_BYTES_PER_US // 2)
    [warning] = summary_of(slow).warnings
    assert "H2D copies of 1 MB or more are faster than this machine's link" in warning
    assert "8.00 GB/s, where the ceiling is 4.00 GB/s" in warning
    assert summary_of(calibrated(build_run(), PINNED_H2D=WARM_BYTES_PER_US * 95 // 100)).warnings == []
    assert summary_of(calibrated(build_run(device="emulated"), PAGEABLE_H2D=100)).warnings == []


def test_ceilings_are_summed_up_and_each_step_and_module_knows_its_own() -> None:
    summary = summary_of(calibrated(build_run(), PINNED_H2D=PINNED_BYTES_PER_US, DISK_READ=2_000))
    assert [(row.measure, row.size_bytes, row.samples) for row in summary.ceilings] == [
        (measure, size, 3) for measure in (Measure.PINNED_H2D, Measure.DISK_READ) for size in SIZES
    ]
    step = summary.steps[1]
    assert step.ceiling_ns / step.h2d_ns == pytest.approx(WARM_BYTES_PER_US / PINNED_BYTES_PER_US, rel=0.02)
    module = summary.modules[0]
    assert module.ceiling_ns / module.warm_ns == pytest.approx(WARM_BYTES_PER_US / PINNED_BYTES_PER_US, rel=0.02)
    assert summary_of(build_run()).steps[1].ceiling_ns is None
