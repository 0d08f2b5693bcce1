"""A module that is in two components is recorded under one name, or its mode is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tracekit.errors import UsageError
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions

from .conftest import DEVICE, call, make
from .test_nothing_left import instance_names
from .test_with_other_hooks import profiled


def decoder_conv(pipeline: Any) -> nn.Module:
    """The transformer has a module of the decoder, which calls it."""
    pipeline.transformer.also = pipeline.vae.decoder.conv_in
    return pipeline.transformer.also


def encoder_layer(pipeline: Any) -> nn.Module:
    """Both text encoders have, and the first calls, one layer."""
    pipeline.text_encoder_2.also = pipeline.text_encoder.encoder.layers[0]
    return pipeline.text_encoder_2.also


def whole_component(pipeline: Any) -> nn.Module:
    """A text encoder is within the other one."""
    pipeline.text_encoder_2.also = pipeline.text_encoder
    return pipeline.text_encoder


SHARE: list[Callable[[Any], nn.Module]] = [decoder_conv, encoder_layer, whole_component]


def offloaded(share: Callable[[Any], nn.Module], mode: str) -> tuple[Any, nn.Module]:
    pipeline = make()
    module = share(pipeline)
    apply_offload(pipeline, OffloadOptions(mode=mode), DEVICE, lambda _: nullcontext())
    return pipeline, module


def paths_to(pipeline: Any, wanted: nn.Module) -> set[str]:
    """Every dotted path of a module in the pipeline's components."""
    return {
        f"{name}.{path}".rstrip(".")
        for name, part in pipeline.components.items()
        if isinstance(part, nn.Module)
        for path, module in part.named_modules(remove_duplicate=False)
        if module is wanted
    }


@pytest.mark.parametrize("mode", ["model", "group"])
@pytest.mark.parametrize("share", SHARE)
def test_it_is_recorded_under_one_of_its_names(
    share: Callable[[Any], nn.Module], mode: str, tmp_path: Path, emulated: Any
) -> None:
    control, _ = offloaded(share, mode)
    expected = call(control)
    pipeline, shared = offloaded(share, mode)
    result, run = profiled(pipeline, tmp_path / "run")
    assert torch.equal(result, expected)
    assert instance_names(pipeline) == instance_names(control)
    assert torch.equal(call(pipeline), expected)

    copies = run.copies[(run.copies["direction"] == "H2D") & run.copies["is_weight"]]
    # What the hooks saw is what the device did: no copy twice, none missing.
    assert (copies["device_start_ns"] >= 0).all()
    assert copies["correlation_id"].is_unique
    owner = next(module for module in shared.modules() if list(module.parameters(recurse=False)))
    names = paths_to(pipeline, owner)
    assert len(names) == 2
    own = copies[copies["fqn"].isin(names)]
    assert own["fqn"].nunique() == 1
    sizes = {name: weight.nbytes for name, weight in owner.named_parameters(recurse=False)}
    assert set(own["parameter"]) == set(sizes)
    assert (own["size_bytes"] == own["parameter"].map(sizes)).all()


@pytest.mark.parametrize("mode", ["sequential", "partial"])
@pytest.mark.parametrize("share", SHARE)
def test_sequential_offload_of_it_is_refused_before_anything_is_changed(
    share: Callable[[Any], nn.Module], mode: str, emulated: Any
) -> None:
    expected = call(offloaded(share, "model")[0])
    pipeline = make()
    shared = share(pipeline)
    before = instance_names(pipeline)
    with pytest.raises(UsageError, match="are one module") as refused:
        apply_offload(pipeline, OffloadOptions(mode=mode), DEVICE, lambda _: nullcontext())
    assert all(path in str(refused.value) for path in paths_to(pipeline, shared))
    assert instance_names(pipeline) == before
    apply_offload(pipeline, OffloadOptions(mode="model"), DEVICE, lambda _: nullcontext())
    assert torch.equal(call(pipeline), expected)


@pytest.mark.parametrize("share", SHARE)
def test_accelerate_itself_still_fails_in_it(share: Callable[[Any], nn.Module], emulated: Any) -> None:
    """Should it learn to, the refusal can go."""
    pipeline = make()
    share(pipeline)
    with pytest.raises(NotImplementedError, match="meta tensor"):
        pipeline.enable_sequential_cpu_offload(device=torch.device(DEVICE))
