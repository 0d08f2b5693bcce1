"""On a GPU: what CUPTI recorded belongs to what the hooks saw, and the fallbacks hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tracekit.api import CaptureOptions, Run, profile_pipeline
from tracekit.model import NONE
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions

pytestmark = pytest.mark.cuda


def profile(path: Path, options: OffloadOptions, **capture: object) -> Run:
    return profile_pipeline(
        "synthetic:flux-tiny",
        offload=options,
        call=CallOptions(steps=3, height=64, width=64, seed=0),
        capture=CaptureOptions(output=path, device="cuda", **capture),  # type: ignore[arg-type]
    )


MODES = {
    "resident": OffloadOptions(mode="resident"),
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "sequential-pinned": OffloadOptions(mode="sequential", host_memory="pinned"),
    "partial": OffloadOptions(mode="partial", resident_bytes=8_000_000),
    "group": OffloadOptions(mode="group"),
    "group-stream": OffloadOptions(mode="group", stream=True),
    "group-stream-low-cpu-mem": OffloadOptions(mode="group", stream=True, low_cpu_mem=True),
    "group-blocks-stream": OffloadOptions(mode="group", group_level="block_level", blocks_per_group=1, stream=True),
}


@pytest.mark.parametrize("mode", list(MODES))
def test_every_copy_of_the_hooks_is_in_cuptis_record(mode: str, tmp_path: Path) -> None:
    run = profile(tmp_path / "run", MODES[mode])
    copies = run.copies
    hooks = copies[copies.copy_id != NONE]
    assert len(hooks)
    assert (hooks.device_start_ns != NONE).all()
    only_cupti = copies[copies.copy_id == NONE]
    assert not only_cupti.is_weight.any()
    assert run.manifest.activity == "cupti"
    assert 0 < (run.manifest.clock.alignment_error_ns or 0) < 1_000_000
    # No copy is faster than any PCIe link of today.
    big = hooks[hooks.size_bytes >= 1 << 20]
    assert (big.size_bytes / (big.device_end_ns - big.device_start_ns) < 130).all()
    assert run.trace_path is not None


def test_the_hosts_memory_is_told_apart(tmp_path: Path) -> None:
    pageable = profile(tmp_path / "a", MODES["sequential"]).copies
    pinned = profile(tmp_path / "b", MODES["sequential-pinned"]).copies
    # Buffers that no file holds are made when a model is loaded, in anonymous memory.
    assert set(pageable[pageable.parameter == "weight"].host_memory) == {"mmap"}
    assert set(pinned[(pinned.parameter == "weight") & (pinned.phase != "setup")].host_memory) == {"pinned"}
    names = pinned[pinned.is_weight & (pinned.phase == "denoise")].device_name
    assert set(names) == {"Memcpy HtoD (Pinned -> Device)"}


def test_kernels_allocations_and_memory_are_recorded(tmp_path: Path) -> None:
    run = profile(tmp_path / "run", MODES["sequential"])
    assert (run.data.device_ops.op == "kernel").any()
    assert run.data.runtime_calls.name.str.contains("cudaMalloc|cudaFree").any()
    series = set(run.data.counters.series)
    assert {"device_allocated_bytes", "device_reserved_bytes", "device_peak_allocated_bytes"} <= series
    summary = run.summary()
    assert all(step.host_python_ns for step in summary.steps)
    assert summary.peak_allocated_bytes is not None
    allocated = run.data.counters.query("series == 'device_allocated_bytes'").value
    assert allocated.max() <= 1.01 * summary.peak_allocated_bytes
    forwards = run.spans.query("kind == 'forward' and fqn == 'transformer'")
    assert (forwards.device_ns > 0).all()
    assert (forwards.device_ns <= forwards.end_ns - forwards.start_ns + 10_000_000).all()


def test_cuda_events_time_copies_where_cupti_is_refused(tmp_path: Path) -> None:
    run = profile(tmp_path / "run", MODES["sequential"], activity="cuda-events")
    assert run.manifest.activity == "cuda-events"
    hooks = run.copies[run.copies.copy_id != NONE]
    assert (hooks.device_start_ns != NONE).mean() > 0.99
    assert (hooks.device_end_ns >= hooks.device_start_ns).all()


def test_a_refused_cupti_is_one_warning_and_a_fallback(tmp_path: Path) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    with torch_profile(activities=[ProfilerActivity.CUDA]):  # Kineto allows one profiler at a time
        run = profile(tmp_path / "run", MODES["sequential"])
    assert run.manifest.activity == "cuda-events"
    assert [w for w in run.manifest.warnings if "CUPTI" in w]


def test_the_cap_is_real(tmp_path: Path) -> None:
    run = profile(tmp_path / "run", MODES["sequential"], vram_bytes=1_000_000_000)
    assert run.manifest.device.cap_bytes == 1_000_000_000
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_captured_graph_is_one_span_that_says_so(tmp_path: Path) -> None:
    import tracekit

    module = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).cuda().eval()
    x = torch.rand(2, 64, device="cuda")
    with torch.no_grad():
        module(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            module(x)
        with tracekit.profile(module, output=tmp_path / "run", name="net") as run:
            graph.replay()
            graph.replay()
    spans = run.data.spans
    assert list(spans[spans.kind == "forward"].note) == ["graph-captured region"] * 2
    assert (run.data.device_ops.op == "kernel").sum() >= 2
