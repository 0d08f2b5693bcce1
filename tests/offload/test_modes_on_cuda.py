"""What only a GPU can show: streams, page-locked host memory, and the modes' outputs there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_runs import SetupRecorder, call, make

from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions, check_options

pytestmark = pytest.mark.cuda

_STREAM = {
    "leaves": OffloadOptions(mode="group", stream=True),
    "leaves, record_stream": OffloadOptions(mode="group", stream=True, record_stream=True),
    "leaves, low_cpu_mem": OffloadOptions(mode="group", stream=True, low_cpu_mem=True),
    "leaves, low_cpu_mem, anonymous": OffloadOptions(
        mode="group", stream=True, low_cpu_mem=True, host_memory="anonymous"
    ),
    "blocks": OffloadOptions(mode="group", group_level="block_level", stream=True),
}
_PAGEABLE = {
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "sequential, pinned": OffloadOptions(mode="sequential", host_memory="pinned"),
    "partial": OffloadOptions(mode="partial", resident_bytes=2_000_000),
    "partial, pinned": OffloadOptions(mode="partial", resident_bytes=2_000_000, host_memory="pinned"),
    "group": OffloadOptions(mode="group"),
}


@pytest.fixture(scope="module")
def resident_output() -> dict[str, torch.Tensor]:
    outputs = {}
    for name in ("flux-tiny", "wan-tiny"):
        pipeline = make(name)
        apply_offload(pipeline, OffloadOptions(mode="resident"), "cuda:0", SetupRecorder())
        outputs[name] = call(pipeline)
    return outputs


@pytest.mark.parametrize("name", ["flux-tiny", "wan-tiny"])
@pytest.mark.parametrize("options", [*_PAGEABLE.values(), *_STREAM.values()], ids=[*_PAGEABLE, *_STREAM])
def test_the_picture_is_the_resident_one(
    name: str, options: OffloadOptions, resident_output: dict[str, torch.Tensor]
) -> None:
    check_options(options, "cuda:0", None)
    pipeline = make(name)
    apply_offload(pipeline, options, "cuda:0", SetupRecorder())
    for _ in range(2):
        torch.testing.assert_close(call(pipeline), resident_output[name], rtol=0, atol=1e-4)


def test_a_stream_pins_at_set_up_and_low_cpu_mem_does_not() -> None:
    def at_rest(low_cpu_mem: bool) -> set[bool]:
        pipeline: Any = make("flux-tiny")
        options = OffloadOptions(mode="group", stream=True, low_cpu_mem=low_cpu_mem)
        apply_offload(pipeline, options, "cuda:0", SetupRecorder())
        return {weight.is_pinned() for weight in pipeline.transformer.parameters()}

    assert at_rest(low_cpu_mem=False) == {True}
    assert at_rest(low_cpu_mem=True) == {False}


def test_sequential_streams_from_the_pinned_copy() -> None:
    pipeline = make("flux-tiny")
    options = OffloadOptions(mode="sequential", host_memory="pinned")
    apply_offload(pipeline, options, "cuda:0", SetupRecorder())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call(pipeline, output_type="latent")
    weights = {weight.nbytes for weight in pipeline.transformer.parameters() if weight.nbytes > 100_000}
    copies = [event for event in profile.events() if event.name.startswith("Memcpy HtoD")]
    assert weights
    assert sum("Pinned" in event.name for event in copies) > sum("Pageable" in event.name for event in copies)


def test_partial_keeps_the_budget_on_the_gpu_between_runs() -> None:
    pipeline = make("flux-tiny")
    before = torch.cuda.memory_allocated()
    options = OffloadOptions(mode="partial", resident_bytes=20_000_000, resident_order="largest")
    apply_offload(pipeline, options, "cuda:0", SetupRecorder())
    call(pipeline)
    kept = torch.cuda.memory_allocated() - before
    assert 10_000_000 < kept < 21_000_000
