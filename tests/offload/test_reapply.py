"""A mode applied after another leaves nothing of it behind, or is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_runs import SetupRecorder, call, make

from tracekit.errors import UsageError
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.offload.weights import components

_PARTIAL = OffloadOptions(mode="partial", resident_bytes=1_000_000)
_UNDONE = {
    "resident": OffloadOptions(mode="resident"),
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "partial": _PARTIAL,
}


def _run(pipeline: Any, emulated: Any) -> tuple[int, int, int, int, torch.Tensor]:
    emulated.reset_counters()
    output = call(pipeline)
    counted = emulated.counters()
    return counted.h2d_count, counted.h2d_bytes, counted.d2h_count, counted.d2h_bytes, output


@pytest.mark.parametrize("former", _UNDONE.values(), ids=_UNDONE.keys())
@pytest.mark.parametrize("latter", ["model", "sequential", "partial", "group"])
def test_a_mode_after_another_copies_what_it_copies_alone(
    former: OffloadOptions, latter: str, emulated: Any, setup_spans: SetupRecorder
) -> None:
    options = {**_UNDONE, "group": OffloadOptions(mode="group")}[latter]
    alone = make("wan-tiny")
    apply_offload(alone, options, "emulated:0", setup_spans)
    *expected, expected_output = _run(alone, emulated)
    pipeline = make("wan-tiny")
    apply_offload(pipeline, former, "emulated:0", setup_spans)
    call(pipeline)
    apply_offload(pipeline, options, "emulated:0", setup_spans)
    *counted, output = _run(pipeline, emulated)
    assert counted == expected
    assert torch.equal(output, expected_output)


def test_taking_partial_off_gives_a_pipeline_that_runs_on_the_cpu(emulated: Any, setup_spans: SetupRecorder) -> None:
    plain = call(make("wan-tiny"))
    pipeline = make("wan-tiny")
    config = dict(pipeline.config)
    apply_offload(pipeline, _PARTIAL, "emulated:0", setup_spans)
    assert dict(pipeline.config) == config
    pipeline.remove_all_hooks()
    pipeline.to("cpu")
    assert {weight.device.type for part in components(pipeline).values() for weight in part.parameters()} == {"cpu"}
    assert not any(hasattr(module, "_hf_hook") for part in components(pipeline).values() for module in part.modules())
    assert torch.equal(call(pipeline), plain)


@pytest.mark.parametrize("latter", [*_UNDONE.values(), OffloadOptions(mode="group")], ids=[*_UNDONE, "group"])
def test_group_offload_cannot_be_taken_off(latter: OffloadOptions, emulated: Any, setup_spans: SetupRecorder) -> None:
    pipeline = make("wan-tiny")
    apply_offload(pipeline, OffloadOptions(mode="group"), "emulated:0", setup_spans)
    with pytest.raises(UsageError, match="group-offloaded already, which diffusers cannot undo"):
        apply_offload(pipeline, latter, "emulated:0", setup_spans)


def test_what_diffusers_refuses_is_one_line(emulated: Any, setup_spans: SetupRecorder) -> None:
    pipeline = make("wan-tiny")
    pipeline.model_cpu_offload_seq = None
    with pytest.raises(UsageError, match="diffusers refuses model offload here: Model CPU offload cannot"):
        apply_offload(pipeline, OffloadOptions(mode="model"), "emulated:0", setup_spans)
