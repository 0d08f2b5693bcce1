"""After a session, by whatever end, modules and patched classes are what they are without tracekit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import accelerate.hooks
import diffusers.hooks.group_offloading as group_offloading
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions

from .conftest import DEVICE, call, make

pytestmark = pytest.mark.usefixtures("emulated")
MODES = ("resident", "model", "sequential", "group")


def patched_owners(pipeline: Any) -> list[Any]:
    owners = [
        nn.Module,
        torch.Tensor,
        torch.cuda,
        torch.cuda.CUDAGraph,
        torch.cuda.Stream,
        torch.cuda.Event,
        torch.get_device_module("emulated"),
        accelerate.hooks,
        accelerate.hooks.AlignDevicesHook,
        accelerate.hooks.CpuOffload,
        accelerate.hooks.UserCpuOffloadHook,
        group_offloading.ModuleGroup,
        DiffusionPipeline,
    ]
    owners += {cls for part in (pipeline, *pipeline.components.values()) for cls in type(part).__mro__}
    return owners


def snapshot(pipeline: Any) -> dict[int, dict[str, Any]]:
    return {id(owner): dict(vars(owner)) for owner in patched_owners(pipeline) if owner is not object}


def instance_names(pipeline: Any) -> dict[str, dict[str, set[str]]]:
    """For each module, the names in its ``__dict__`` and how many entries its own dictionaries have."""
    return {
        name: {path: _shape(module) for path, module in part.named_modules()}
        for name, part in pipeline.components.items()
        if isinstance(part, nn.Module)
    }


def _shape(module: nn.Module) -> set[str]:
    return {
        f"{key}:{len(value)}" if isinstance(value, dict) else f"{key}:{getattr(value, '__qualname__', '')}"
        for key, value in vars(module).items()
    }


class BoomError(Exception):
    pass


def run(pipeline: Any, how: str) -> None:
    if how == "in order":
        call(pipeline)
        return
    error = BoomError if how == "an exception" else KeyboardInterrupt

    def fail(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            raise error
        return kwargs

    with pytest.raises(error):
        call(pipeline, callback_on_step_end=fail)


@pytest.mark.parametrize("how", ["in order", "an exception", "ctrl-c"])
@pytest.mark.parametrize("mode", MODES)
def test_everything_is_as_after_the_same_calls_without_tracekit(mode: str, how: str, recording) -> None:
    control = make()
    apply_offload(control, OffloadOptions(mode=mode), DEVICE, lambda _: nullcontext())
    run(control, how)

    pipeline = make()
    before = snapshot(pipeline)
    with recording() as recorded:
        recorded.session.register(pipeline)
        recorded.session.watch(pipeline)
        apply_offload(pipeline, OffloadOptions(mode=mode), DEVICE, recorded.session.setup)
        run(pipeline, how)
    assert recorded.session.seen.warnings == []
    assert snapshot(pipeline) == before
    assert instance_names(pipeline) == instance_names(control)
    assert len(recorded.data.copies) > 0


def test_an_exception_inside_a_forward_closes_every_span(recording) -> None:
    pipeline = make()
    apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, lambda _: nullcontext())

    def explode(*_: Any) -> None:
        raise BoomError

    pipeline.transformer.transformer_blocks[1].register_forward_hook(explode)
    with recording() as recorded:
        recorded.session.watch(pipeline)
        with pytest.raises(BoomError):
            call(pipeline)
        assert recorded.recorder.local.thread.idle
    kinds = recorded.data.spans.groupby("kind", observed=True).size()
    assert kinds["run"] == 1
    ids = set(recorded.data.spans.span_id)
    parents = recorded.data.spans.parent_id
    # The block that failed was closed with its callers; spans above it are rows, too.
    assert set(parents[parents >= 0]) <= ids


def test_a_pipeline_can_be_recorded_twice(recording) -> None:
    pipeline = make()
    apply_offload(pipeline, OffloadOptions(mode="model"), DEVICE, lambda _: nullcontext())
    counts = []
    for _ in range(2):
        with recording() as recorded:
            recorded.session.watch(pipeline)
            call(pipeline)
        kinds = recorded.data.spans.groupby("kind", observed=True).size()
        counts.append(kinds.drop("garbage collection", errors="ignore").to_dict())
    assert counts[0] == counts[1]


def test_paused_steps_are_not_recorded_and_the_others_are(recording) -> None:
    pipeline = make()
    apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, lambda _: nullcontext())
    with recording() as recorded:
        session = recorded.session
        session.watch(pipeline)

        def alternate(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            (session.pause if step % 2 == 0 else session.resume)()
            return kwargs

        call(pipeline, steps=4, callback_on_step_end=alternate)
    spans = recorded.data.spans
    assert (spans.kind == "scheduler").sum() == 2
    top = spans[(spans.kind == "forward") & (spans.fqn == "transformer")]
    assert len(top) == 2


def test_a_collector_that_fails_is_let_go_and_the_run_goes_on(recording) -> None:
    from tracekit.capture.collector import Collector

    class FailingCollector(Collector):
        told = 0

        def step_ended(self) -> None:
            self.told += 1
            raise RuntimeError("the driver went away")

    pipeline = make()
    apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, lambda _: nullcontext())
    failing = FailingCollector()
    with recording() as recorded:
        recorded.session.add(failing)
        recorded.session.watch(pipeline)
        call(pipeline)
    assert failing.told == 1
    assert recorded.session.seen.warnings == ["FailingCollector failed and was let go: the driver went away"]
    assert (recorded.data.spans.kind == "scheduler").sum() == 2
