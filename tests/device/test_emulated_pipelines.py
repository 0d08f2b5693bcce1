"""Unmodified diffusers pipelines in every offload mode give the CPU's result on the emulated device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from diffusers import DiffusionPipeline

from tracekit.device.emulated import EmulatedDevice
from tracekit.workload.pipeline import CallOptions, build_call, load_pipeline

Apply = Callable[[DiffusionPipeline, Path], None]


def group(pipeline: DiffusionPipeline, _: Path, **options: Any) -> None:
    pipeline.enable_group_offload(onload_device=torch.device("emulated"), **options)


def group_to_disk(pipeline: DiffusionPipeline, folder: Path) -> None:
    # diffusers 0.42.1 saves the second of two tied weights (T5's embedding) after it has emptied the first, so that
    # noise is onloaded later, on every device.
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    tied = [name for name, module in modules.items() if has_tied_weights(module)]
    for name in tied:
        modules[name].to("emulated")
    group(pipeline, folder, offload_type="leaf_level", offload_to_disk_path=str(folder), exclude_modules=tied)


def has_tied_weights(module: torch.nn.Module) -> bool:
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    return len(names) > len(list(module.parameters()))


MODES: dict[str, Apply] = {
    "resident": lambda pipeline, _: pipeline.to("emulated"),
    "model": lambda pipeline, _: pipeline.enable_model_cpu_offload(device="emulated"),
    "sequential": lambda pipeline, _: pipeline.enable_sequential_cpu_offload(device="emulated"),
    "group leaf": functools.partial(group, offload_type="leaf_level"),
    "group block": functools.partial(group, offload_type="block_level", num_blocks_per_group=1),
    "group to disk": lambda pipeline, folder: group_to_disk(pipeline, folder),
}


def load_quietly(name: str) -> DiffusionPipeline:
    pipeline = load_pipeline(f"synthetic:{name}", None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline: DiffusionPipeline) -> torch.Tensor:
    options = CallOptions(steps=2, seed=0, extra={"output_type": "pt"})
    result = pipeline(**build_call(pipeline, None, options))
    return (result.images if hasattr(result, "images") else result.frames).cpu()


@functools.cache
def expected(name: str) -> torch.Tensor:
    return call(load_quietly(name))


# Every mode, and every architecture in the mode that touches most of the device.
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("flux-tiny", mode) for mode in MODES),
        *((name, "sequential") for name in ("sdxl-tiny", "sd3-tiny", "wan-tiny")),
    ],
)
def test_output_is_the_cpus(device: EmulatedDevice, name: str, mode: str, tmp_path: Path) -> None:
    reference = expected(name)
    pipeline = load_quietly(name)
    MODES[mode](pipeline, tmp_path)
    device.reset_counters()
    output = call(pipeline)
    torch.testing.assert_close(output, reference, rtol=0, atol=1e-5)
    assert device.counters().kernel_count > 100, "the device computed nothing"
    if mode != "resident":
        weights = sum(parameter.nbytes for parameter in pipeline.vae.decoder.parameters())
        assert device.counters().h2d_bytes > weights


def test_group_offload_with_streams_is_refused(device: EmulatedDevice) -> None:
    pipeline = load_quietly("flux-tiny")
    with pytest.raises(NotImplementedError, match="the emulated device has no streams"):
        group(pipeline, Path(), offload_type="leaf_level", use_stream=True)


def test_a_pipeline_that_does_not_fit_under_the_cap_runs_out_of_memory(device: EmulatedDevice) -> None:
    torch.emulated.empty_cache()
    pipeline = load_quietly("flux-tiny")
    weights = sum(parameter.nbytes for parameter in pipeline.transformer.parameters())
    device.set_cap(device.memory().reserved_bytes + weights // 2)
    with pytest.raises(torch.OutOfMemoryError, match="MiB allowed"):
        pipeline.to("emulated")


def make_model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 8)).eval()


def test_accelerate_offloads_a_bare_module(device: EmulatedDevice) -> None:
    sample = torch.randn(2, 8)
    reference = make_model()(sample)
    model = cpu_offload(make_model(), torch.device("emulated"))
    device.reset_counters()
    assert torch.equal(model(sample).cpu(), reference)
    layers = 2 * (64 + 8) * 4
    assert device.counters().h2d_bytes == layers + sample.nbytes


def test_accelerate_dispatches_to_device_host_and_disk(device: EmulatedDevice, tmp_path: Path) -> None:
    sample = torch.randn(2, 8)
    reference = make_model()(sample)
    model = dispatch_model(
        make_model(),
        device_map={"0": "emulated:0", "1": "cpu", "2": "disk"},
        main_device="emulated:0",
        offload_dir=str(tmp_path),
    )
    assert torch.equal(model(sample).cpu(), reference)
