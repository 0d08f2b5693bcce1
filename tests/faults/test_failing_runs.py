"""Whatever ends a run, its folder says so, and can be read, summed up and exported up to there."""

from __future__ import annotations

import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxSingleTransformerBlock

from tracekit import api
from tracekit.render.chrome import write_chrome_trace

CAP_BYTES = 512 << 20
ASKED_BYTES = 500 << 20


class BoomError(Exception):
    pass


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: type, method: str, call: int, error: Callable[[], Any]) -> None:
    """Let one call of a method (counted from 1) do something else first, which usually raises."""
    original = getattr(owner, method)
    seen = 0

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == call:
            error()
        return original(self, *arguments, **options)

    monkeypatch.setattr(owner, method, failing)


def take_too_much() -> None:
    torch.empty(ASKED_BYTES, dtype=torch.uint8, device="emulated")


def raiser(error: type[BaseException]) -> Callable[[], Any]:
    def throw() -> None:
        raise error("here")

    return throw


def assert_readable(run: api.Run, reason: str) -> api.Run:
    """The folder alone, as another process finds it."""
    again = api.load(run.path)
    assert (again.manifest.complete, again.manifest.incomplete_reason.startswith(reason)) == (False, True)
    summary = again.summary()
    assert (summary.complete, summary.h2d_bytes > 0) == (False, True)
    stats = write_chrome_trace(again.timeline, io.BytesIO())
    assert stats.slices["forward"] > 0
    return again


POINTS = {
    "in the second step's forward": (FluxTransformer2DModel, "forward", 2, 1),
    "deep in a block": (FluxSingleTransformerBlock, "forward", 6, 1),
    "in the scheduler": (FlowMatchEulerDiscreteScheduler, "step", 2, 1),
    "before the first step": (FluxPipeline, "encode_prompt", 1, 0),
}


@pytest.mark.parametrize("error", [BoomError, KeyboardInterrupt, MemoryError], ids=lambda error: error.__name__)
@pytest.mark.parametrize("point", list(POINTS))
def test_an_error_anywhere_keeps_what_was_before(
    point: str, error: type[BaseException], profile: Callable[..., api.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, method, call, steps = POINTS[point]
    fail_at(monkeypatch, owner, method, call, raiser(error))
    run = profile(error, steps=4)
    if steps == 0:
        assert api.load(run.path).manifest.incomplete_reason == f"{error.__name__}: here"
        assert len(api.load(run.path).timeline.steps) == 0
        return
    again = assert_readable(run, f"{error.__name__}: here")
    assert len(again.timeline.steps) >= steps
    assert "here" in again.summary().incomplete_reason


def test_a_device_that_runs_out_of_memory_in_a_forward_is_said(
    profile: Callable[..., api.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at(monkeypatch, FluxTransformer2DModel, "forward", 2, take_too_much)
    run = assert_readable(profile(torch.OutOfMemoryError, mode="resident", vram_bytes=CAP_BYTES), "OutOfMemoryError")
    assert run.summary().peak_allocated_bytes is not None


@pytest.mark.parametrize(
    ("mode", "there"),
    [("resident", {"text_encoder", "text_encoder_2", "transformer", "vae"}), ("model", {"transformer"})],
)
def test_a_device_that_runs_out_of_memory_tells_who_held_it(
    mode: str, there: set[str], profile: Callable[..., api.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    gc.collect()  # what a failed pipeline left on the device would have no name here
    fail_at(monkeypatch, FluxTransformer2DModel, "forward", 2, take_too_much)
    run = api.load(profile(torch.OutOfMemoryError, mode=mode, vram_bytes=CAP_BYTES).path)
    memory = run.summary().out_of_memory
    assert memory is not None
    assert {holder.component for holder in memory.holders} == there
    assert all(holder.weight_bytes == holder.component_bytes for holder in memory.holders)
    assert (memory.fqn, memory.cap_bytes, memory.requested_bytes) == ("transformer", CAP_BYTES, ASKED_BYTES)
    assert memory.allocated_bytes is not None
    assert memory.weight_bytes <= memory.allocated_bytes < CAP_BYTES < memory.allocated_bytes + ASKED_BYTES
    page = run.to_html()
    assert "The device ran out of memory" in page
    assert "transformer&#39;s weights: " in page


def test_a_run_after_a_failed_one_is_as_the_first(
    profile: Callable[..., api.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = profile()
    with monkeypatch.context() as patch:
        fail_at(patch, FluxTransformer2DModel, "forward", 2, raiser(BoomError))
        profile(BoomError)
    after = profile()
    counts = [
        run.spans.groupby("kind").size().drop(["tracekit", "garbage collection"], errors="ignore").to_dict()
        for run in (before, after)
    ]
    assert counts[0] == counts[1]
    assert after.manifest.complete
