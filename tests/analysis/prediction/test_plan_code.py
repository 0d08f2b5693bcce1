"""The code to paste: run on the emulated device where it can be, and checked against signatures where it cannot."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest
import torch
from diffusers.hooks import apply_group_offloading

from tracekit.analysis.prediction.code import code_for
from tracekit.analysis.prediction.residents import shortest_names
from tracekit.device.emulated import load
from tracekit.model.plan import Configuration
from tracekit.workload.pipeline import CallOptions, build_call, find_folder, load_pipeline

DEVICE = "emulated:0"
KEPT = ("transformer.transformer_blocks.0", "transformer.proj_out.weight")
RUNNABLE = (
    Configuration(mode="resident"),
    Configuration(mode="model"),
    Configuration(mode="sequential"),
    Configuration(mode="sequential", host_memory="anonymous"),
    Configuration(mode="group"),
    Configuration(mode="group", group_level="block_level", blocks_per_group=2),
    Configuration(mode="partial", resident=KEPT),
)
ON_CUDA = (
    Configuration(mode="sequential", host_memory="pinned"),
    Configuration(mode="partial", host_memory="pinned", resident=KEPT),
    Configuration(mode="group", stream=True, record_stream=True),
    Configuration(mode="group", stream=True, low_cpu_mem=True),
    Configuration(mode="group", group_level="block_level", stream=True),
)


def picture(code: str, device: str | None, name: str = "synthetic:flux-tiny") -> torch.Tensor:
    """What the pipeline makes after the code was run on it, which moves nothing where there is none."""
    pipe = load_pipeline(name, None)
    pipe.set_progress_bar_config(disable=True)
    exec(compile(code, "<pasted>", "exec"), {"pipe": pipe})
    options = CallOptions(steps=1, height=32, width=32, seed=0)
    arguments: dict[str, Any] = build_call(pipe, find_folder(name), options, device)
    with torch.no_grad():
        return torch.as_tensor(pipe(**(arguments | {"output_type": "pt"}))[0]).cpu()


@pytest.fixture(scope="module")
def on_cpu() -> torch.Tensor:
    return picture("", None)


@pytest.mark.parametrize("configuration", RUNNABLE, ids=lambda configuration: configuration.name)
def test_pasted_code_runs_and_makes_the_same_picture(configuration: Configuration, on_cpu: torch.Tensor) -> None:
    device = load()
    code = code_for(configuration, DEVICE, ("transformer",), configuration.resident)
    before = device.counters().h2d_count
    torch.testing.assert_close(picture(code, DEVICE), on_cpu, rtol=1e-4, atol=1e-4)
    assert device.counters().h2d_count > before


def test_pasted_code_keeps_parts_of_two_denoisers() -> None:
    load()
    kept = ("transformer.blocks.0", "transformer_2.proj_out.weight")
    code = code_for(Configuration(mode="partial"), DEVICE, ("transformer", "transformer_2"), kept)
    name = "synthetic:wan22-tiny"
    torch.testing.assert_close(picture(code, DEVICE, name), picture("", None, name), rtol=1e-4, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("configuration", [*RUNNABLE, *ON_CUDA], ids=lambda configuration: configuration.name)
def test_pasted_code_runs_on_a_gpu(configuration: Configuration) -> None:
    code = code_for(configuration, "cuda", ("transformer",), configuration.resident)
    found, moved = picture(code, "cuda"), picture('pipe.to("cuda")', "cuda")
    # Matrices of the same weights, at other addresses: kernels may add up in another order.
    torch.testing.assert_close(found, moved, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("configuration", [*RUNNABLE, *ON_CUDA], ids=lambda configuration: configuration.name)
def test_code_is_python_that_terminals_need_not_wrap(configuration: Configuration) -> None:
    code = code_for(configuration, "cuda:0", ("transformer",), configuration.resident)
    compile(code, "<pasted>", "exec")
    assert max(map(len, code.splitlines())) <= 92


@pytest.mark.parametrize("configuration", ON_CUDA[2:], ids=lambda configuration: configuration.name)
def test_arguments_of_group_offload_are_ones_that_diffusers_takes(configuration: Configuration) -> None:
    code = code_for(configuration, "cuda", ("transformer",), ())
    (call,) = (
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "apply_group_offloading"
    )
    known = inspect.signature(apply_group_offloading).parameters
    given = {keyword.arg for keyword in call.keywords}
    assert given <= known.keys()
    assert "use_stream" in given
    assert ("low_cpu_mem_usage" in given) == configuration.low_cpu_mem


def test_whole_modules_stand_for_their_parameters() -> None:
    everything = ["t.a.0.w", "t.a.0.b", "t.a.1.w", "t.c.w", "t.c.d.w"]
    assert shortest_names(["t.a.0.w", "t.a.0.b"], everything) == ["t.a.0"]
    assert shortest_names(["t.a.0.w", "t.a.0.b", "t.a.1.w"], everything) == ["t.a"]
    assert shortest_names(["t.c.w"], everything) == ["t.c.w"]
    assert shortest_names(everything, everything) == ["t.a", "t.c"]
