"""HolisticTraceAnalysis, other people's tool, reads our traces and finds what we find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from builders import THREAD, build_run
from timelines import RUN_NS, bare_timeline, trace_of

from tracekit.analysis.timeline import build_timeline
from tracekit.model import Timeline

if int(pd.__version__.partition(".")[0]) >= 3:
    pytest.skip("HolisticTraceAnalysis needs pandas below 3", allow_module_level=True)

from hta.common.trace import Trace
from hta.trace_analysis import TraceAnalysis

from tracekit import api
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions


@pytest.fixture(scope="module", params=["built", "profiled on the emulated device"])
def timeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    if request.param == "built":
        return build_timeline(build_run(steps=4))
    return api.profile_pipeline(
        "synthetic:flux-tiny",
        offload=OffloadOptions(mode="sequential"),
        call=CallOptions(steps=4, height=32, width=32),
        capture=api.CaptureOptions(output=tmp_path_factory.mktemp("profiled") / "run", device="emulated", trace=False),
    ).timeline


@pytest.fixture(scope="module")
def folder(timeline: Timeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hta")
    (path / "trace.json.gz").write_bytes(trace_of(timeline)[0])
    return path


@pytest.fixture(autouse=True)
def _exact_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # By default it rounds a start up and an end down to whole microseconds, which costs short kernels most.
    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1")


def until_last_step(timeline: Timeline) -> pd.DataFrame:
    """The device operations that HTA keeps: those launched before the last step ends."""
    ops, calls = timeline.run.device_ops, timeline.run.runtime_calls
    last = int(timeline.steps["end_ns"].max())
    return ops[ops["correlation_id"].isin(calls.loc[calls["start_ns"] <= last, "correlation_id"])]


def busy_us(ops: pd.DataFrame) -> float:
    """The time in which at least one of the operations runs."""
    ordered = ops.sort_values("start_ns")
    reach = np.maximum.accumulate(ordered["end_ns"].to_numpy())
    start = np.maximum(ordered["start_ns"].to_numpy(), np.append(np.iinfo(np.int64).min, reach[:-1]))
    return float(np.maximum(ordered["end_ns"].to_numpy() - start, 0).sum() / 1000)


def us_by_name(ops: pd.DataFrame) -> dict[str, float]:
    durations = (ops["end_ns"] - ops["start_ns"]).groupby(ops["name"], observed=True).sum()
    return {str(name): total / 1000 for name, total in durations.items()}


def test_its_steps_copies_and_kernels_are_ours(timeline: Timeline, folder: Path) -> None:
    trace = Trace(trace_dir=str(folder))
    trace.parse_traces(use_multiprocessing=False)
    trace.decode_symbol_ids(use_shorten_name=False)
    assert trace.get_iterations(0) == [0, 1, 2, 3]
    rows = trace.get_trace(0)
    on_device = rows[rows["stream"] >= 0]
    ops = timeline.run.device_ops
    assert len(on_device) == len(ops)
    theirs = on_device.groupby("s_name")["dur"].sum().to_dict()
    assert theirs == pytest.approx(us_by_name(ops))
    copies = on_device[on_device["s_name"].str.contains("HtoD|DtoH")]
    assert copies["bytes"].sum() == timeline.copies["size_bytes"].sum()
    assert (copies["memory_bw_gbps"] > 0).all()
    in_steps = timeline.copies[timeline.copies["step_index"] >= 0]
    theirs = copies[copies["iteration"] >= 0].groupby("iteration").size().to_dict()
    assert theirs == in_steps.groupby("step_index").size().to_dict()


def test_its_breakdown_agrees_with_ours(timeline: Timeline, folder: Path) -> None:
    analysis = TraceAnalysis(trace_dir=str(folder), include_last_profiler_step=True)
    by_type, by_kernel = analysis.get_gpu_kernel_breakdown(
        visualize=False, include_memory_kernels=True, num_kernels=100, duration_ratio=1.0
    )
    ops = until_last_step(timeline)
    memory = ops["op"] != "kernel"
    theirs = by_type.set_index("kernel_type")["sum"].to_dict()
    # It truncates each stretch to a whole microsecond. No copy runs beside a kernel here, some only touch one.
    assert theirs["COMPUTATION"] == pytest.approx(busy_us(ops[~memory]), abs=len(ops))
    assert theirs["MEMORY"] == pytest.approx(busy_us(ops[memory]), abs=len(ops))
    assert theirs.pop("COMPUTATION overlapping MEMORY", 0) == 0
    assert set(theirs) == {"COMPUTATION", "MEMORY"}
    ours = us_by_name(ops)
    assert by_kernel.set_index("name")["sum (us)"].to_dict() == pytest.approx(ours)


def test_copies_beside_kernels_overlap_for_it_as_long_as_for_us(tmp_path: Path) -> None:
    us = 1_000
    copy, kernel = ({"device_index": 0, "op": op, "name": name, "stream_id": stream} for op, name, stream in (
        ("memcpy", "Memcpy HtoD (Pinned -> Device)", 13), ("kernel", "gemm", 7)))  # fmt: skip
    times = [(copy, 10, 50), (kernel, 30, 70), (copy, 60, 90), (kernel, 100, 110)]
    ops = [
        row | {"start_ns": RUN_NS + start * us, "end_ns": RUN_NS + end * us, "correlation_id": index, "size_bytes": 100}
        for index, (row, start, end) in enumerate(times, 1)
    ]
    calls = [
        {"name": "cudaLaunchKernel", "thread_id": THREAD, "start_ns": RUN_NS + index, "end_ns": RUN_NS + index + 1,
         "correlation_id": index}
        for index in range(1, 5)
    ]  # fmt: skip
    (tmp_path / "trace.json.gz").write_bytes(trace_of(bare_timeline({"device_ops": ops, "runtime_calls": calls}))[0])
    by_type, _ = TraceAnalysis(trace_dir=str(tmp_path)).get_gpu_kernel_breakdown(
        visualize=False, include_memory_kernels=True
    )
    # Off by one where it truncates 19.999.
    assert by_type.set_index("kernel_type")["sum"].to_dict() == pytest.approx(
        {"MEMORY": 40, "COMPUTATION": 20, "COMPUTATION overlapping MEMORY": 30}, abs=2
    )


def test_its_idle_and_busy_times_agree_with_ours(timeline: Timeline, folder: Path) -> None:
    analysis = TraceAnalysis(trace_dir=str(folder), include_last_profiler_step=True)
    theirs = analysis.get_temporal_breakdown(visualize=False).iloc[0]
    ops = until_last_step(timeline)
    span_us = (ops["end_ns"].max() - ops["start_ns"].min()) / 1000
    assert theirs["kernel_time(us)"] == pytest.approx(span_us)
    assert theirs["idle_time(us)"] == pytest.approx(span_us - busy_us(ops))
    assert theirs["compute_time(us)"] == pytest.approx(busy_us(ops[ops["op"] == "kernel"]))
