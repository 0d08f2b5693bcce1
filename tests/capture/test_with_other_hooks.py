"""Pipelines that others have changed already are recorded rightly, and compute what they compute without tracekit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tracekit
from tracekit.api import Run
from tracekit.errors import TracekitError
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions

from .conftest import DEVICE, call, make

Change = Callable[[Any], None]


def add_lora(pipeline: Any) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    pipeline.transformer.add_adapter(config)


def compile_regions(pipeline: Any) -> None:
    """Not the attention, which torch cannot trace on the emulated device."""
    for block in pipeline.transformer.transformer_blocks:
        block.ff.compile(backend="eager")


def hook_forwards(pipeline: Any) -> None:
    """Another tool that looks at every forward, and one that changes what a block gives."""
    for module in pipeline.transformer.modules():
        module.register_forward_pre_hook(lambda *_: None)
        module.register_forward_hook(lambda *_: None)
    pipeline.transformer.proj_out.register_forward_hook(lambda _module, _inputs, output: output * 0.5)


def replace_forwards(pipeline: Any) -> None:
    """Another tool that replaces a module's forward on the instance."""
    for block in pipeline.transformer.single_transformer_blocks:
        original = block.forward
        block.forward = lambda *inputs, _original=original, **options: _original(*inputs, **options)


def cast_layerwise(pipeline: Any) -> None:
    pipeline.transformer.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=pipeline.transformer.dtype)


def tie_weights(pipeline: Any) -> None:
    first, second = pipeline.transformer.transformer_blocks[:2]
    second.attn.to_q.weight = first.attn.to_q.weight


def share_a_module(pipeline: Any) -> None:
    """One module in two components: called in the decoder, held by the transformer, too."""
    pipeline.transformer.also = pipeline.vae.decoder.conv_in


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (
        add_lora,
        compile_regions,
        hook_forwards,
        replace_forwards,
        cast_layerwise,
        tie_weights,
        share_a_module,
    )
}


def prepared(change: Change, mode: str) -> Any:
    pipeline = make()
    change(pipeline)
    apply_offload(pipeline, OffloadOptions(mode=mode), DEVICE, lambda _: nullcontext())
    return pipeline


def names_in_modules(pipeline: Any) -> dict[str, set[str]]:
    return {path: set(vars(module)) for path, module in pipeline.transformer.named_modules()}


def profiled(pipeline: Any, path: Path) -> tuple[torch.Tensor, Run]:
    with tracekit.profile(pipeline, path, device="emulated", trace=False) as run:
        result = call(pipeline)
    return result, run


# Modules of two components are refused in sequential offload: tests/capture/test_shared_modules.py.
CASES = [
    (name, mode)
    for name in CHANGES
    for mode in ("sequential", "model", "resident")
    if (name, mode) != (share_a_module.__name__, "sequential")
]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_the_picture_is_the_same_bit_for_bit_and_steps_and_copies_are_there(
    name: str, mode: str, tmp_path: Path, emulated: Any
) -> None:
    control, pipeline = (prepared(CHANGES[name], mode) for _ in range(2))
    expected = call(control)
    result, run = profiled(pipeline, tmp_path / "run")
    assert torch.equal(result, expected)
    # diffusers itself leaves something behind at the first call.
    assert names_in_modules(pipeline) == names_in_modules(control)
    assert run.manifest.complete
    assert len(run.timeline.steps) == 2
    copies = run.copies[run.copies["copy_id"] >= 0]
    # Each copy that the hooks saw is one that the device saw, and no weight's lacks its name.
    assert (copies["device_start_ns"] >= 0).all()
    h2d = run.copies[(run.copies["direction"] == "H2D") & (run.copies["size_bytes"] > 4096)]
    if mode == "sequential":
        assert (h2d["is_weight"] | (h2d["phase"] != "denoise")).all()
        assert h2d["is_weight"].any()
    assert torch.equal(call(pipeline), expected)


def test_a_pipeline_profiled_twice_gives_two_equal_runs(tmp_path: Path, emulated: Any) -> None:
    pipeline = prepared(lambda _: None, "sequential")
    expected = call(prepared(lambda _: None, "sequential"))
    found = [profiled(pipeline, tmp_path / f"run{number}") for number in range(2)]
    assert all(torch.equal(result, expected) for result, _ in found)
    kinds = ["forward", "onload", "offload", "scheduler", "run"]
    counts = [run.spans[run.spans["kind"].isin(kinds)].groupby("kind").size().to_dict() for _, run in found]
    assert counts[0] == counts[1]


def test_two_profiles_at_once_are_refused_in_one_line_or_both_right(tmp_path: Path, emulated: Any) -> None:
    pipelines = [prepared(lambda _: None, "sequential") for _ in range(2)]
    expected = call(prepared(lambda _: None, "sequential"))
    refusal, inner_run = "", None
    with tracekit.profile(pipelines[0], tmp_path / "outer", device="emulated", trace=False) as outer_run:
        try:
            result, inner_run = profiled(pipelines[1], tmp_path / "inner")
            assert torch.equal(result, expected)
        except TracekitError as error:
            refusal = str(error)
        assert torch.equal(call(pipelines[0]), expected)
    assert "\n" not in refusal
    assert bool(refusal) != (inner_run is not None)
    if refusal:
        assert not (tmp_path / "inner").exists()
        assert len(outer_run.timeline.runs) == 1
    else:
        assert len(inner_run.timeline.runs) == 1
    assert len(outer_run.timeline.steps) >= 2
    assert torch.equal(call(pipelines[0]), expected)


def test_pipelines_called_in_several_threads_give_a_run_each(tmp_path: Path, emulated: Any) -> None:
    pipelines = [prepared(lambda _: None, "sequential") for _ in range(2)]
    expected = call(prepared(lambda _: None, "sequential"))
    results: dict[int, torch.Tensor] = {}
    with tracekit.profile(pipelines[0], tmp_path / "run", device="emulated", trace=False) as run:

        def work(number: int) -> None:
            results[number] = call(pipelines[number])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(torch.equal(result, expected) for result in results.values())
    spans = run.spans
    runs = spans[spans["kind"] == "run"]
    assert sorted(runs["run_index"]) == [0, 1]
    in_runs = spans[spans["kind"].isin(["forward", "onload", "scheduler"])]
    # No run has another thread's spans.
    assert (in_runs.groupby("run_index")["thread_id"].nunique() == 1).all()
    steps = run.timeline.steps.groupby("run_index").size()
    assert steps.loc[runs["run_index"]].tolist() == [2] * len(runs)


def test_a_module_that_is_no_pipeline_and_has_anothers_hooks(tmp_path: Path, emulated: Any) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[0].register_forward_hook(lambda _module, _inputs, output: output + 1)
    inputs = torch.ones(2, 4)
    expected = module(inputs)
    with tracekit.profile(module, tmp_path / "run", device="emulated", trace=False) as run:
        assert torch.equal(module(inputs), expected)
    assert run.timeline.steps["step_index"].tolist() == [0]
