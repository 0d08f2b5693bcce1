"""The summary's figures, on runs whose figures are known, and their sums, on any run."""

import json

import msgspec
import pytest
from builders import KERNEL_NS, START_NS, build_run, make_manifest, make_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.model import NONE, Summary


def summary_of(tables, **manifest) -> Summary:
    return summarize(build_timeline(make_run(tables, make_manifest(**manifest))))


def assert_closes(row) -> None:
    assert row.wall_ns == row.exposed_copy_ns + row.compute_ns + row.rest_ns
    assert min(row.exposed_copy_ns, row.compute_ns, row.rest_ns, row.tracekit_ns) >= 0
    assert row.exposed_copy_ns <= row.copy_ns <= row.wall_ns
    assert row.tracekit_ns <= row.rest_ns
    assert row.h2d_ns <= row.copy_ns


TIMES = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 80)), max_size=8)


@settings(max_examples=50, deadline=None)
@given(
    copies=TIMES, kernels=TIMES, own=TIMES, ends=st.lists(st.integers(100, 300), min_size=1, max_size=4, unique=True)
)
def test_sums_close_whatever_overlaps(copies, kernels, own, ends):
    span = {"thread_id": 1, "run_index": 0}
    spans = [
        span | {"span_id": 0, "parent_id": NONE, "kind": "run", "start_ns": 50, "end_ns": 350},
        span | {"span_id": 1, "parent_id": 0, "kind": "forward", "fqn": "unet", "start_ns": 60, "end_ns": 70},
    ]
    spans += [
        span | {"span_id": 10 + i, "parent_id": 0, "kind": "scheduler", "start_ns": end - 1, "end_ns": end}
        for i, end in enumerate(sorted(ends))
    ]
    spans += [
        span | {"span_id": 20 + i, "parent_id": NONE, "kind": "tracekit", "start_ns": start, "end_ns": start + length}
        for i, (start, length) in enumerate(own)
    ]
    rows = [
        span | {"copy_id": i, "direction": ("H2D", "D2H")[i % 2], "size_bytes": 10, "start_ns": s, "end_ns": s + length}
        for i, (s, length) in enumerate(copies)
    ]
    ops = [{"op": "kernel", "name": "k", "start_ns": s, "end_ns": s + length} for s, length in kernels]
    summary = summary_of({"spans": spans, "copies": rows, "device_ops": ops})
    assert len(summary.steps) == len(ends)
    for row in (*summary.steps, *summary.phases):
        assert_closes(row)
    denoise = next(phase for phase in summary.phases if phase.phase == "denoise")
    for figure in ("wall_ns", "copy_ns", "compute_ns", "rest_ns", "copy_count", "h2d_bytes", "d2h_bytes"):
        assert getattr(denoise, figure) == sum(getattr(step, figure) for step in summary.steps)
    assert sum(phase.wall_ns for phase in summary.phases if phase.phase != "setup") == 300
    assert summary.h2d_bytes == 10 * ((len(copies) + 1) // 2)
    assert sum(phase.copy_count for phase in summary.phases) == len(copies)


@pytest.mark.parametrize("device", ["cuda", "emulated"])
def test_a_built_run(device):
    run = build_run(device=device, steps=4, blocks=2)
    summary = summarize(build_timeline(run))
    steps = summary.steps
    parameters = run.parameters[run.parameters["component"].astype(str) == "transformer"]
    weights = int(parameters.loc[parameters["tied_to"].astype(str) == "", "size_bytes"].sum())
    assert [step.h2d_bytes for step in steps] == [weights, weights + 8, weights + 8, weights + 8]
    assert [step.copy_count for step in steps] == [16, 17, 17, 17]
    # A step's last kernels, the denoiser's and the scheduler's, may still run after it.
    assert sum(step.compute_ns for step in steps) == pytest.approx(4 * 9 * KERNEL_NS, abs=2 * KERNEL_NS)
    assert steps[1] == msgspec.structs.replace(steps[2], step_index=1)
    assert summary.denoisers == ["transformer"]
    assert [phase.phase for phase in summary.phases] == ["setup", "encode", "denoise", "decode"]
    assert summary.setup_ns == summary.phases[0].wall_ns == 1_200_000_000
    assert summary.h2d_bytes == sum(phase.h2d_bytes for phase in summary.phases)
    assert (summary.d2h_bytes, summary.unattributed_copies, summary.device_only_copies) == (12_288, 0, 0)
    assert summary.h2d_bytes_by_memory == {"mmap": summary.h2d_bytes - 32, "anonymous": 32}
    assert summary.total_ns == run.spans["end_ns"].max() - START_NS


def test_cold_against_warm_is_of_the_first_run():
    cold = summarize(build_timeline(build_run(steps=4, runs=2))).cold_warm
    assert cold.warm_samples == 3
    assert cold.first_step_ns > 3 * cold.warm_step_ns
    assert cold.warm_min_ns == cold.warm_max_ns == cold.warm_step_ns
    assert cold.first_copy_ns == pytest.approx(5 * cold.warm_copy_ns, rel=0.01)
    assert (cold.first_h2d_bytes, cold.warm_h2d_bytes) == (cold.warm_h2d_bytes - 8, cold.warm_h2d_bytes)


def test_one_step_has_no_warm_sample():
    cold = summarize(build_timeline(build_run(steps=1))).cold_warm
    assert (cold.warm_samples, cold.warm_step_ns, cold.warm_min_ns, cold.warm_copy_ns) == (0, None, None, None)


def test_modules_by_exposed_time_with_first_and_warm_onloads():
    modules = {module.fqn: module for module in summarize(build_timeline(build_run(steps=3))).modules}
    exposed = [module.exposed_ns for module in modules.values()]
    assert exposed == sorted(exposed, reverse=True)
    leaf = modules["transformer.transformer_blocks.0.ff.proj"]
    assert (leaf.module_class, leaf.onloads, leaf.weight_bytes) == ("Linear", 3, 8_000_000 + 7_812)
    assert leaf.h2d_bytes == 3 * leaf.weight_bytes
    assert leaf.first_ns == pytest.approx(5 * leaf.warm_ns, rel=0.01)
    assert leaf.exposed_ns == leaf.first_ns + 2 * leaf.warm_ns
    assert leaf.compute_ns == 3 * KERNEL_NS
    once = modules["vae.decoder.up_blocks.0.norm1"]
    assert (once.onloads, once.warm_ns) == (1, None)


def test_copies_under_kernels_are_not_exposed():
    copy = {
        "copy_id": 0,
        "direction": "H2D",
        "size_bytes": 10,
        "start_ns": 100,
        "end_ns": 200,
        "fqn": "a",
        "parameter": "w",
    }
    ops = [{"op": "kernel", "name": "k", "start_ns": 150, "end_ns": 300}]
    module = summary_of({"copies": [copy], "device_ops": ops}).modules[0]
    assert (module.first_ns, module.exposed_ns, module.module_class) == (100, 50, "")


def test_copies_that_nobody_claims_are_counted():
    copies = [
        {"copy_id": 0, "direction": "H2D", "size_bytes": 10, "start_ns": 1, "end_ns": 2, "span_id": NONE},
        {"copy_id": 1, "direction": "H2D", "size_bytes": 10, "start_ns": 1, "end_ns": 2, "span_id": 7},
        {"copy_id": 2, "direction": "H2D", "size_bytes": 10, "start_ns": 1, "end_ns": 2, "fqn": "a", "parameter": "w"},
    ]
    op = {"op": "memcpy", "name": "Memcpy HtoD (Pageable -> Device)", "start_ns": 5, "end_ns": 6, "size_bytes": 3}
    summary = summary_of({"copies": copies, "device_ops": [op]})
    assert (summary.unattributed_copies, summary.device_only_copies) == (2, 1)


def test_peaks_are_the_largest_sample_or_the_devices_own():
    samples = [("device_allocated_bytes", 5.0), ("device_peak_allocated_bytes", 9.0), ("device_allocated_bytes", 2.0)]
    summary = summary_of({"counters": [{"series": name, "t_ns": 1, "value": value} for name, value in samples]})
    assert (summary.peak_allocated_bytes, summary.peak_reserved_bytes) == (9, None)


def test_an_empty_run_folder_is_summed_up_and_says_so():
    summary = summary_of({}, complete=False, incomplete_reason="killed")
    assert summary.verdict.startswith("This profile is incomplete: killed. No denoising step was recorded")
    assert (summary.steps, summary.phases, summary.modules, summary.cold_warm) == ([], [], [], None)


def test_a_summary_is_plain_json():
    summary = summarize(build_timeline(build_run()))
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary
    assert json.loads(msgspec.json.encode(summary))["steps"][0]["step_index"] == 0
