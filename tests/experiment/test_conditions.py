"""The state that a run begins in: what was asked for is what capture then sees, and the manifest says it."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tracekit
from tracekit import api
from tracekit.api.options import CaptureOptions
from tracekit.capture.emptycache import no_clearing
from tracekit.device import emulated
from tracekit.model import Allocator, Conditions, Kernels, PageCache, SpanKind
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions


def profile(checkpoint: Path, folder: Path, **conditions: object) -> api.Run:
    # An earlier pipeline that still has the files mapped would keep their pages in use.
    gc.collect()
    return api.profile_pipeline(
        str(checkpoint),
        offload=OffloadOptions(mode="sequential"),
        call=CallOptions(steps=2),
        capture=CaptureOptions(output=folder, device="emulated", trace=False),
        conditions=Conditions(**conditions),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("state", [PageCache.EVICTED, PageCache.CACHED, PageCache.MAPPED])
def test_the_weights_pages_are_where_they_were_asked_to_be(checkpoint: Path, tmp_path: Path, state: PageCache) -> None:
    run = profile(checkpoint, tmp_path / "run", page_cache=state)
    found = run.manifest.conditions
    assert (found.page_cache, found.established, found.reason) == (state, True, "")
    assert found.resident_share is not None
    assert found.mapped_share is not None
    assert (found.resident_share < 0.05) == (state == PageCache.EVICTED)
    assert (found.mapped_share > 0.95) == (state == PageCache.MAPPED)
    # Capture, which knows nothing of what was asked for, sees the same when the weights are copied first.
    first = run.copies[run.copies["is_weight"] & run.copies["first"]].merge(run.data.host_samples, on="copy_id")
    read_share = first["read_bytes"].sum() / first["size_bytes"].sum()
    assert read_share > 0.6 if state == PageCache.EVICTED else read_share < 0.02
    assert tracekit.load(run.path).summary().conditions == found


def test_as_it_is_nothing_is_changed_and_the_state_is_read_back(checkpoint: Path, tmp_path: Path) -> None:
    found = profile(checkpoint, tmp_path / "run").manifest.conditions
    assert (found.page_cache, found.established) == (PageCache.AS_IS, True)
    assert found.resident_share is not None


def test_a_state_that_cannot_be_is_a_warning_and_the_pipeline_runs_all_the_same(
    checkpoint: Path, tmp_path: Path
) -> None:
    run = api.profile_pipeline(
        str(checkpoint),
        offload=OffloadOptions(mode="sequential", host_memory="anonymous"),
        call=CallOptions(steps=1),
        capture=CaptureOptions(output=tmp_path / "run", device="emulated", trace=False),
        conditions=Conditions(page_cache=PageCache.EVICTED),
    )
    assert not run.manifest.conditions.established
    assert any(run.manifest.conditions.reason in warning for warning in run.manifest.warnings)
    assert len(run.summary().steps) == 1


def test_kernels_used_before_leaves_no_trace_of_that_use(checkpoint: Path, tmp_path: Path) -> None:
    plain = profile(checkpoint, tmp_path / "plain", page_cache=PageCache.CACHED)
    used = profile(checkpoint, tmp_path / "used", page_cache=PageCache.CACHED, kernels=Kernels.USED)
    assert used.manifest.conditions.kernels == Kernels.USED
    assert used.manifest.conditions.established
    assert used.summary().device_only_copies == 0
    for table in ("copies", "parameters"):
        assert len(getattr(used.data, table)) == len(getattr(plain.data, table)), table
    spans = [(run.data.spans["kind"] != SpanKind.GARBAGE).sum() for run in (used, plain)]
    assert spans[0] == spans[1]
    # The first onloads are those of the recorded run's first step, each parameter once.
    assert used.copies["first"].sum() == plain.copies["first"].sum()
    assert set(used.copies.loc[used.copies["first"] & (used.copies["phase"] == "denoise"), "step_index"]) == {0}


def test_the_allocators_cache_is_kept_inside_the_block_alone() -> None:
    emulated.load()
    module = torch.get_device_module("emulated")
    module.empty_cache()
    reserved = module.memory_reserved()
    with no_clearing("emulated:0"):
        del_me = torch.empty(64 << 20, dtype=torch.uint8, device="emulated:0")
        del del_me
        module.empty_cache()
        kept = module.memory_reserved()
    assert kept > reserved
    module.empty_cache()
    assert module.memory_reserved() == reserved
    assert "empty_cache" not in vars(module)


def test_the_allocator_is_as_asked_for_during_the_runs(checkpoint: Path, tmp_path: Path) -> None:
    # Model offload clears the cache through diffusers whatever the device is; sequential does on CUDA alone.
    cleared = {}
    for allocator in Allocator:
        run = api.profile_pipeline(
            str(checkpoint),
            offload=OffloadOptions(mode="model"),
            call=CallOptions(steps=1),
            capture=CaptureOptions(output=tmp_path / allocator, device="emulated", trace=False),
            conditions=Conditions(allocator=allocator),
        )
        assert run.manifest.conditions.allocator == allocator
        spans = run.data.spans  # run_index as captured: what set-up cleared has none
        cleared[allocator] = ((spans["kind"] == "empty_cache") & (spans["run_index"] == 0)).sum()
    assert cleared[Allocator.AS_IS] > 0, "diffusers no longer clears the cache through torch's module for the device"
    assert cleared[Allocator.NO_CLEARING] == 0


@pytest.mark.cuda
def test_accelerate_clears_the_cache_through_torchs_module(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils.memory import clear_device_cache

    cleared: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: cleared.append(True))
    clear_device_cache()
    assert cleared == [True]


@pytest.mark.parametrize("option", [("--page-cache", "cached"), ("--allocator", "no-clearing"), ("--kernels", "used")])
def test_a_script_sets_its_own_state_up(option: tuple[str, str], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('ran')")
    done = subprocess.run(
        [sys.executable, "-m", "tracekit", "profile", *option, str(script)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"{option[0]} is for pipelines" in done.stderr
