"""What a report is made of, on runs whose figures are known beforehand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from builders import MS, START_NS, build_run, make_frame, make_manifest, make_run
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.report import build_report
from tracekit.analysis.report.bandwidth import copy_groups
from tracekit.analysis.report.build import configuration
from tracekit.analysis.report.heat import heat_map
from tracekit.analysis.report.memory import memory_track
from tracekit.analysis.report.totals import break_even, fastest
from tracekit.model import Cause, OffloadInfo, RunData
from tracekit.model.finding import Basis
from tracekit.model.report import MAX_POINTS, CheckState, CopyState, Matrix, Report, RunReport, TotalLine
from tracekit.model.tables import COUNTERS

S = 10**9


def report_of(*runs: RunData) -> Report:
    timelines = [build_timeline(run) for run in runs]
    return build_report([(timeline, summarize(timeline), None) for timeline in timelines])


@pytest.fixture(scope="module")
def run() -> RunReport:
    return report_of(build_run(steps=5)).runs[0]


def values(matrix: Matrix | None) -> np.ndarray[Any, np.dtype[np.float32]]:
    assert matrix is not None
    return np.frombuffer(matrix.values, "<f4").reshape(matrix.rows, matrix.columns)


def line(name: str, setup: int, first: int, warm: int) -> TotalLine:
    return TotalLine(
        name=name, setup_ns=setup, around_ns=0, first_step_ns=first, warm_step_ns=warm, warm_low_ns=warm,
        warm_high_ns=warm, once_low_ns=setup + first, once_high_ns=setup + first,
        measured_steps=4, basis=Basis.MEASURED,
    )  # fmt: skip


def test_each_steps_parts_add_up(run: RunReport) -> None:
    assert [step.label for step in run.steps] == ["1", "2", "3", "4", "5"]
    for step in run.steps:
        assert sum(part.duration_ns for part in step.parts) == step.wall_ns == step.end_ns - step.start_ns


def test_without_causes_the_steps_are_split_by_what_the_device_did() -> None:
    built = build_run(steps=3)
    dark = dataclasses.replace(built, device_ops=built.device_ops.iloc[:0], manifest=make_manifest(activity="none"))
    run = report_of(dark).runs[0]
    assert run.summary.causes == []
    assert {part.name for step in run.steps for part in step.parts} == {"exposed copies", "neither copy nor kernel"}
    for step in run.steps:
        assert sum(part.duration_ns for part in step.parts) == step.wall_ns
    assert "as the host saw it" in run.titles.verdict


def test_the_heat_map_has_each_modules_copies(run: RunReport) -> None:
    heat = run.heat
    assert heat is not None
    assert heat.steps == ["1", "2", "3", "4", "5"]
    assert heat.modules[:2] == [
        "transformer.transformer_blocks.0.norm1", "transformer.transformer_blocks.0.attn.to_q",
    ]  # fmt: skip
    row = heat.modules.index("transformer.transformer_blocks.0.ff.proj")
    # 8 MB and a bias of 7,812 B: 1.6 GB/s from disk in step 1, 8 GB/s later.
    assert np.allclose(values(heat.rate)[row], [1.6, 8, 8, 8, 8], rtol=0.01)
    assert np.allclose(values(heat.copy)[row, 1:], 8_007_812 / 8, rtol=0.01)
    assert np.allclose(values(heat.resident)[row], [0.25, 1, 1, 1, 1])
    assert np.allclose(values(heat.compute)[row], 30_000)


@pytest.mark.parametrize(("steps", "max_rows"), [(5, 3), (130, 8), (61, 1)])
def test_a_large_heat_map_is_merged_and_loses_nothing(steps: int, max_rows: int) -> None:
    timeline = build_timeline(build_run(steps=steps))
    whole, merged = heat_map(timeline, 600), heat_map(timeline, max_rows)
    assert whole is not None
    assert merged is not None
    assert len(merged.modules) <= max_rows
    assert len(merged.steps) <= 60
    assert len(merged.steps) == -(-steps // merged.steps_a_column)
    each = np.bincount(np.arange(steps) // merged.steps_a_column)
    assert np.isclose(
        np.nansum(values(merged.copy) * each), np.nansum(values(whole.copy)) * whole.steps_a_column, rtol=0.02
    )


def test_copies_are_grouped_by_state_and_size(run: RunReport) -> None:
    states = {group.state for group in run.copies}
    assert states == {CopyState.PAGED, CopyState.WARM}
    copies = sum(group.copies for group in run.copies)
    assert copies == sum(module.onloads * 2 for module in run.summary.modules)
    assert sum(group.total_bytes for group in run.copies) == sum(module.h2d_bytes for module in run.summary.modules)
    for group in run.copies:
        assert group.low_ns <= group.median_ns <= group.high_ns
        assert sum(count for _, _, count in group.points) == group.copies


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**10)), min_size=1, max_size=300))
def test_every_copy_is_in_one_mark(copies: list[tuple[int, int]]) -> None:
    timeline = build_timeline(build_run(steps=1, blocks=1))
    rows = timeline.copies[timeline.copies["is_weight"]].iloc[[0] * len(copies)].copy()
    rows["size_bytes"], rows["duration_ns"] = zip(*copies, strict=True)
    groups = copy_groups(dataclasses.replace(timeline, copies=rows))
    assert sum(count for group in groups for _, _, count in group.points) == len(copies)
    assert sum(group.total_bytes for group in groups) == sum(size for size, _ in copies)
    assert sum(len(group.points) for group in groups) <= MAX_POINTS


def test_memory_keeps_every_peak() -> None:
    sizes = [100 + index % 7 for index in range(5_000)]
    sizes[3_210] = 9_999
    rows = [
        {"series": "device_allocated_bytes", "device_index": 0, "t_ns": START_NS + index * MS, "value": float(size)}
        for index, size in enumerate(sizes)
    ]
    run = make_run({"counters": rows})
    track = memory_track(build_timeline(run))
    assert track is not None
    (series,) = track.series
    assert len(series.t_ns) == len(series.high_bytes) == len(series.low_bytes) == 500
    assert max(series.high_bytes) == 9_999
    assert min(series.low_bytes) == 100
    assert track.limit_bytes == 85_000_000_000


@pytest.mark.parametrize(
    ("held", "title"),
    [
        (5_000_000, "Almost none of 79.2 GiB is used"),
        (20 << 30, "59.2 GiB of 79.2 GiB is never used"),
        (90 << 30, "0 B of 79.2 GiB is never used"),
    ],
)
def test_the_unused_share_of_memory_is_said_sensibly(held: int, title: str) -> None:
    row = {"series": "device_allocated_bytes", "device_index": 0, "t_ns": START_NS, "value": float(held)}
    counters = make_frame(COUNTERS, [row])
    assert report_of(dataclasses.replace(build_run(), counters=counters)).runs[0].titles.memory == title


def test_memory_that_was_not_sampled_is_not_shown() -> None:
    run = dataclasses.replace(build_run(), counters=make_frame(COUNTERS, []))
    assert memory_track(build_timeline(run)) is None


def test_break_even_names_the_step_from_which_another_is_ahead() -> None:
    # 10 + 4n against 20 + 2n: equal at 5 steps, so the second is ahead from 6.
    lines = [line("plain", 6 * S, 8 * S, 4 * S), line("pinned", 18 * S, 4 * S, 2 * S)]
    assert fastest(lines, 5).name == "plain"
    assert fastest(lines, 6).name == "pinned"
    assert break_even(lines) == "plain is fastest at first, pinned from step 6"
    assert break_even(lines[:1]) == "What happens once costs 10.0 s, as much as 2 warm steps"


@given(st.lists(st.tuples(*[st.integers(0, 10**11)] * 3), min_size=2, max_size=5))
def test_the_fastest_is_never_beaten(times: list[tuple[int, int, int]]) -> None:
    lines = [line(str(index), *each) for index, each in enumerate(times)]
    for steps in (1, 4, 28, 100):
        best = fastest(lines, steps).total_ns(steps)
        assert all(best <= other.total_ns(steps) for other in lines)
    assert break_even(lines)


def test_a_good_run_passes_its_checks(run: RunReport) -> None:
    states = {check.title: check.state for check in run.checks}
    assert CheckState.FAILED not in states.values()
    assert states["The profile ended in order"] is CheckState.PASSED
    assert states["Clocks aligned"] is CheckState.PASSED
    assert run.titles.trust.startswith("All ")


def test_a_bad_run_fails_its_checks() -> None:
    built = build_run(
        complete=False, incomplete_reason="killed", counts={"device_records_dropped": 3}, overhead_ns={"probe": 5 * S}
    )
    cut = dataclasses.replace(built, device_ops=built.device_ops.iloc[: len(built.device_ops) // 2])
    run = report_of(cut).runs[0]
    failed = {check.title for check in run.checks if check.state is CheckState.FAILED}
    assert "The profile is incomplete" in failed
    assert "All copies recorded, none faster than the link" in failed
    assert "Events are missing" in failed
    assert "failed: read these first" in run.titles.trust
    assert any("device records dropped: 3" in check.detail for check in run.checks)


def test_a_link_below_its_width_fails() -> None:
    device = make_manifest().device
    device.link = "PCIe 5.0 x16"
    built = build_run(device="cuda")
    built.manifest.device = device
    rows = [
        {"series": name, "device_index": 0, "t_ns": START_NS, "value": value}
        for name, value in (("nvml_pcie_link_generation", 5.0), ("nvml_pcie_link_width", 8.0))
    ]
    narrow = dataclasses.replace(built, counters=make_frame(COUNTERS, rows))
    checks = {check.title: check for check in report_of(narrow).runs[0].checks}
    assert checks["The link ran at its full width"].state is CheckState.FAILED
    assert "PCIe 5.0 x8 at best, of PCIe 5.0 x16" in checks["The link ran at its full width"].detail


def test_what_takes_little_is_not_worth_changing(run: RunReport) -> None:
    compute = sum(row.duration_ns for row in run.summary.causes if row.cause == Cause.COMPUTE)
    assert compute
    assert any(text.startswith("Faster kernels, or torch.compile: saves at most") for text in run.not_worth)
    # Three quarters of the weights came from disk in step 1.
    assert not any(text.startswith("A faster disk") for text in run.not_worth)


def test_moments_are_each_modules_slowest_onload(run: RunReport) -> None:
    fqn = "transformer.transformer_blocks.0.ff.proj"
    moment = run.moments[fqn]
    first = run.steps[0]
    assert first.start_ns <= moment.start_ns < moment.end_ns <= first.end_ns


@pytest.mark.parametrize(
    ("offload", "name"),
    [
        (OffloadInfo(mode="sequential"), "sequential"),
        (OffloadInfo(mode="group", options={"level": "leaf_level", "stream": True, "low_cpu_mem": False}),
         "group, leaf_level, stream"),
        (OffloadInfo(mode="partial", options={"resident_bytes": 8 * 2**30, "order": "largest"}, host_memory="pinned"),
         "partial, resident 8.00 GiB, largest, pinned"),
    ],
)  # fmt: skip
def test_runs_are_named_by_what_sets_them_apart(offload: OffloadInfo, name: str) -> None:
    assert configuration(make_manifest(offload=offload)) == name


def test_runs_of_one_name_get_their_folders_names() -> None:
    one, other = build_run(), dataclasses.replace(build_run(), path="runs/second")
    names = [run.name for run in report_of(one, other).runs]
    assert names == ["sequential (FluxPipeline_sequential_built)", "sequential (second)"]


def test_a_run_without_steps_has_a_report() -> None:
    run = report_of(make_run({})).runs[0]
    assert run.first is run.warm is run.heat is run.memory is run.total is None
    assert run.copies == []
    assert run.titles.verdict == "No denoising step was recorded"
