"""The paging verdict on built runs, and on real ones whose pages are put out of memory between steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from builders import build_run
from disks import on_disk
from safetensors.torch import load_file, save_file
from torch import nn

import tracekit
from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.findings import find_findings
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.capture.pagecache import evict, mapped_weights, populate
from tracekit.device.emulated import load
from tracekit.experiment.verification import read_from_disk
from tracekit.model import NONE, Cause, Paging, PagingEvidence, RunData, Summary
from tracekit.model.text import same_text
from tracekit.model.typical import always_pages, step_causes

LAYERS, SIZE = 3, 32 << 20


def evidence(run: RunData) -> PagingEvidence:
    found = summarize(build_timeline(run)).paging
    assert found is not None
    return found


def sampled(run: RunData, change: Callable[[int, int], tuple[float, float]]) -> RunData:
    """The run with samples by what `change` makes of each copy's run and step: residency, share of bytes read."""
    copies = build_timeline(run).copies.set_index("copy_id").loc[run.host_samples["copy_id"]]
    states = [change(int(r), int(s)) for r, s in zip(copies["run_index"], copies["step_index"], strict=True)]
    samples = run.host_samples.assign(
        resident_before=[resident for resident, _ in states],
        read_bytes=[int(share * size) for (_, share), size in zip(states, copies["size_bytes"], strict=True)],
    )
    return dataclasses.replace(run, host_samples=samples)


COLD, WARM = (0.1, 0.9), (1.0, 0.0)


def test_what_the_system_does_not_tell_is_unknown_and_not_0() -> None:
    run = sampled(build_run(), lambda run, step: COLD if step == 0 else WARM)
    untold = dataclasses.replace(run, host_samples=run.host_samples.assign(read_bytes=NONE))
    found = evidence(untold)
    assert found.paging is Paging.COLD_ONLY  # the pages were not there
    assert (found.first_read_bytes, found.later_read_bytes) == (None, None)
    assert read_from_disk(found)
    assert read_from_disk(evidence(run))
    assert not read_from_disk(evidence(sampled(run, lambda run, step: WARM)))


def test_a_cold_start_alone() -> None:
    found = evidence(build_run(steps=4))
    assert found.paging is Paging.COLD_ONLY
    assert (found.later_read_bytes, found.paged_steps, found.resident_before) == (0, [(0, 0)], pytest.approx(0.25))
    assert found.first_read_bytes == pytest.approx(0.75 * found.mapped_bytes, rel=0.01)
    assert "3 later steps probed" in found.reason


def test_what_the_kernel_read_ahead_was_in_memory_and_came_from_disk_all_the_same() -> None:
    found = evidence(sampled(build_run(steps=4), lambda run, step: (0.5, 1.0) if step < 1 else WARM))
    assert found.read_ahead_bytes == pytest.approx(0.5 * found.mapped_bytes, rel=0.01)
    assert " came from disk at their first onload, " in found.reason
    assert " of it read ahead of its own copy" in found.reason
    # Half was in memory, the other half was read: nothing ahead.
    half = evidence(sampled(build_run(steps=4), lambda run, step: (0.5, 0.5) if step < 1 else WARM))
    assert half.read_ahead_bytes < 0.01 * half.mapped_bytes
    assert " were missing from memory at their first onload" in half.reason
    cached = evidence(sampled(build_run(), lambda run, step: WARM))
    assert cached.read_ahead_bytes == 0


def test_every_step_pages_and_none_is_called_warm() -> None:
    timeline = build_timeline(sampled(build_run(steps=4), lambda run, step: COLD))
    summary = summarize(timeline)
    assert summary.paging is not None
    assert summary.paging.paging is Paging.ALWAYS
    assert summary.paging.paged_steps == [(0, step) for step in range(4)]
    assert "No step is warm, the run is always paging: each of 3 later steps" in summary.verdict
    assert "warm step" not in summary.verdict.replace("No step is warm", "")
    slugs = {finding.slug for finding in find_findings(timeline, summary, Predictor(timeline))}
    assert "weights-exceed-ram" in slugs
    assert not slugs & {"pageable-memory", "mapped-weights", "exposed-copies"}
    assert always_pages(summary)


def test_one_later_step_pages_again_and_is_no_warm_sample() -> None:
    run = sampled(build_run(steps=5), lambda run, step: COLD if step in (0, 3) else WARM)
    summary = summarize(build_timeline(run))
    assert summary.paging is not None
    assert summary.paging.paging is Paging.LATER
    assert summary.paging.paged_steps == [(0, 0), (0, 3)]
    assert "Paging came back: step 4 of run 1 found" in summary.verdict
    assert summary.cold_warm is not None
    assert summary.cold_warm.warm_samples == 3


def test_a_later_eviction_is_told_though_the_start_was_warm() -> None:
    assert evidence(sampled(build_run(steps=5), lambda run, step: COLD if step == 3 else WARM)).paging is Paging.LATER
    second = sampled(build_run(steps=2, runs=2), lambda run, step: COLD if run == 1 and step == -1 else WARM)
    found = evidence(second)
    assert found.paging is Paging.LATER
    assert "run 2, outside its steps" in found.reason


def test_no_page_was_missing() -> None:
    summary = summarize(build_timeline(sampled(build_run(steps=3), lambda run, step: WARM)))
    assert summary.paging is not None
    assert summary.paging.paging is Paging.NEVER
    assert "Paging is no cause of it" in summary.verdict


def test_read_ahead_that_hides_missing_pages_shows_in_the_bytes_read() -> None:
    assert (
        evidence(sampled(build_run(), lambda run, step: (1.0, 1.0) if step == 0 else WARM)).paging is Paging.COLD_ONLY
    )


def test_a_trace_of_reading_is_no_paging() -> None:
    assert evidence(sampled(build_run(), lambda run, step: (1.0, 0.004))).paging is Paging.NEVER


def test_a_few_missing_pages_are_told_as_such_and_their_reading_is_a_cause() -> None:
    summary = summarize(build_timeline(sampled(build_run(), lambda run, step: (0.996, 0.005) if step == 0 else WARM)))
    assert summary.paging is not None
    assert (summary.paging.paging, summary.paging.is_trace) == (Paging.NEVER, True)
    assert "Next to no weights paged: " in summary.verdict
    assert "every page" not in summary.verdict
    assert Cause.DISK in step_causes(summary, summary.steps[0])


def test_what_something_else_read_while_all_weights_were_in_memory_is_no_paging() -> None:
    run = sampled(build_run(), lambda run, step: WARM)
    # As when a library is loaded during one copy.
    run.host_samples.loc[run.host_samples.index[3], "read_bytes"] = 200_000
    summary = summarize(build_timeline(run))
    assert summary.paging is not None
    assert (summary.paging.first_read_bytes, summary.paging.is_trace) == (0, False)
    assert "every page of the weights that were probed was in memory" in summary.verdict
    assert not any(row.cause is Cause.DISK for row in summary.causes)


def test_weights_that_are_in_no_file_cannot_page() -> None:
    run = build_run()
    moved = run.copies.assign(host_memory=same_text("anonymous", len(run.copies)))
    found = evidence(dataclasses.replace(run, copies=moved))
    assert (found.paging, found.mapped_bytes, found.first_read_bytes) == (Paging.NEVER, 0, 0)
    assert "paging does not apply" in found.reason


def test_without_evidence_it_is_unknown_and_says_why() -> None:
    run = build_run()
    none = evidence(dataclasses.replace(run, host_samples=run.host_samples.iloc[:0]))
    assert none.paging is Paging.UNKNOWN
    assert "none was probed" in none.reason
    untold = run.host_samples.assign(resident_before=float("nan"), read_bytes=-1)
    found = evidence(dataclasses.replace(run, host_samples=untold))
    assert found.paging is Paging.UNKNOWN
    assert "the kernel does not tell" in found.reason


def test_without_weights_there_is_no_verdict() -> None:
    run = build_run()
    assert summarize(build_timeline(dataclasses.replace(run, copies=run.copies.iloc[:0]))).paging is None


class Weights(nn.Module):
    """Layers whose weights lie in a mapped file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        rows = SIZE // 4 // 1024
        save_file({f"{n}.weight": torch.full((rows, 1024), float(n)) for n in range(LAYERS)}, path)
        with torch.device("meta"):
            self.layers = nn.ModuleList(nn.Linear(1024, rows, bias=False) for _ in range(LAYERS))
        self.requires_grad_(False)
        self.layers.load_state_dict(load_file(path), assign=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([layer(x).sum() for layer in self.layers]).sum()


@pytest.fixture
def profiled(tmp_path: Path) -> Callable[..., Summary]:
    """Profiles calls of mapped weights under sequential offload; `evicted` are put out of memory before."""
    on_disk(tmp_path)
    load()

    def run(calls: int, evicted: tuple[int, ...]) -> Summary:
        weights = Weights(tmp_path / "weights.safetensors")
        ranges = mapped_weights([weights])
        populate(ranges)
        cpu_offload(weights, "emulated:0")
        x = torch.ones(1, 1024, device="emulated:0")
        with (
            tracekit.profile(weights, output=tmp_path / "run", name="net", device="emulated", trace=False, nvml=False)
            as recorded,
            torch.no_grad(),
        ):  # fmt: skip
            for step in range(calls):
                if step in evicted:
                    evict(ranges)
                weights(x)
        return recorded.summary()

    return run


def copying(summary: Summary, step: int) -> dict[Cause, int]:
    rows = step_causes(summary, summary.steps[step])
    assert sum(row.duration_ns for row in rows.values()) == summary.steps[step].wall_ns
    return {cause: row.duration_ns for cause, row in rows.items()}


def test_a_real_evicted_first_step_is_disk_and_the_warm_ones_are_not(profiled: Callable[..., Summary]) -> None:
    summary = profiled(4, (0,))
    assert summary.paging is not None
    assert summary.paging.paging is Paging.COLD_ONLY
    assert summary.paging.first_read_bytes == pytest.approx(LAYERS * SIZE, rel=0.15)
    first, warm = copying(summary, 0), copying(summary, 2)
    assert Cause.DISK not in warm
    beyond = {cause: ns - warm.get(cause, 0) for cause, ns in first.items() if cause in (Cause.DISK, Cause.MAPPING)}
    assert max(beyond, key=lambda cause: beyond[cause]) is Cause.DISK


def test_real_pages_that_are_mapped_already_show_no_disk(profiled: Callable[..., Summary]) -> None:
    summary = profiled(3, ())
    assert summary.paging is not None
    assert summary.paging.paging is Paging.NEVER
    assert not any(row.cause is Cause.DISK for row in summary.causes)


def test_real_eviction_at_every_step_is_always_paging_and_at_one_is_paging_again(
    profiled: Callable[..., Summary],
) -> None:
    always = profiled(4, (0, 1, 2, 3))
    assert always.paging is not None
    assert always.paging.paging is Paging.ALWAYS
    assert "always paging" in always.verdict
    assert all(Cause.DISK in copying(always, step) for step in range(4))
