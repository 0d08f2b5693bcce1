"""Each tiny synthetic pipeline is whole, loads offline from its folder, and runs reproducibly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from tracekit.workload.pipeline import CallOptions, build_call, load_pipeline
from tracekit.workload.quiet import no_step_bar
from tracekit.workload.synthetic import SYNTHETIC, cached_folder

TINY = [name for name in SYNTHETIC if name.endswith("-tiny")]


@pytest.fixture(scope="module", params=TINY)
def pipeline(request):
    loaded = load_pipeline(f"synthetic:{request.param}", None)
    loaded.recipe = SYNTHETIC[request.param]
    return loaded


def outputs(pipeline, seed: int = 3) -> torch.Tensor:
    call = build_call(pipeline, None, CallOptions(steps=2, seed=seed, extra={"output_type": "pt"}))
    with no_step_bar(pipeline):
        return pipeline(**call)[0]


def test_all_kinds_are_there():
    assert {"flux-tiny", "sdxl-tiny", "sd3-tiny", "wan-tiny", "wan22-tiny"} == set(TINY)


def test_every_component_of_the_recipe_is_loaded(pipeline):
    assert type(pipeline).__name__ == pipeline.recipe.pipeline.partition(".")[2]
    for name, part in pipeline.recipe.parts.items():
        component = getattr(pipeline, name)
        if part is None:
            assert component is None
        else:
            assert component is not None
    tokenizers = [name for name, part in pipeline.recipe.parts.items() if part and "Tokenizer" in part.class_name]
    assert tokenizers
    for name in tokenizers:
        # T5TokenizerFast and T5Tokenizer are one class since transformers 5.
        assert type(getattr(pipeline, name)).__name__ in pipeline.recipe.parts[name].class_name


def test_two_steps_are_finite_and_repeat_bit_for_bit(pipeline):
    first = outputs(pipeline)
    assert torch.isfinite(first).all()
    assert first.std() > 0.01
    assert torch.equal(first, outputs(pipeline))
    assert not torch.equal(first, outputs(pipeline, seed=4))


def test_the_prompt_reaches_the_output(pipeline):
    def with_prompt(prompt: str) -> torch.Tensor:
        call = build_call(pipeline, None, CallOptions(steps=1, prompt=prompt, extra={"output_type": "pt"}))
        with no_step_bar(pipeline):
            return pipeline(**call)[0]

    assert not torch.equal(with_prompt("a cat"), with_prompt("two dogs on a red boat"))


def forwards(pipeline, steps: int) -> Counter[str]:
    calls: Counter[str] = Counter()
    hooks = [
        component.register_forward_pre_hook(lambda _module, _args, name=name: calls.update([name]))
        for name, component in pipeline.components.items()
        if isinstance(component, torch.nn.Module)
    ]
    call = build_call(pipeline, None, CallOptions(steps=steps))
    with no_step_bar(pipeline):
        pipeline(**call)
    for hook in hooks:
        hook.remove()
    return calls


def test_wan_makes_two_forwards_a_step():
    assert forwards(load_pipeline("synthetic:wan-tiny", None), steps=3)["transformer"] == 6


def test_wan22_uses_both_denoisers():
    calls = forwards(load_pipeline("synthetic:wan22-tiny", None), steps=4)
    assert calls["transformer"] + calls["transformer_2"] == 8
    assert min(calls["transformer"], calls["transformer_2"]) >= 2


def test_flux_tiny_sequence_is_short():
    # A VAE with fewer blocks makes the sequence up to 64 times longer: 128 pixels are 8 by 8 tokens.
    pipeline = load_pipeline("synthetic:flux-tiny", None)
    lengths = []
    hook = pipeline.transformer.x_embedder.register_forward_pre_hook(
        lambda _module, args: lengths.append(args[0].shape[1])
    )
    with no_step_bar(pipeline):
        pipeline(**build_call(pipeline, None, CallOptions(steps=1)))
    hook.remove()
    assert lengths == [64]


def test_the_folder_is_an_ordinary_diffusers_folder():
    folder = cached_folder("flux-tiny")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "FluxPipeline"
    for name, value in index.items():
        if isinstance(value, list) and value[0] is not None:
            assert (folder / name).is_dir()
    assert json.loads((folder / "text_encoder" / "config.json").read_text())["architectures"] == ["CLIPTextModel"]


def mapped_files() -> list[tuple[int, int, str]]:
    rows = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    return [
        (*(int(end, 16) for end in row[0].split("-")), row[5])
        for row in rows
        if len(row) == 6 and row[5].endswith(".safetensors")
    ]


def mapped_share(pipeline) -> float:
    """Share of weight bytes that lie in a mapped safetensors file."""
    mapped = mapped_files()
    inside = total = 0
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            for weight in component.parameters():
                total += weight.nbytes
                start, end = weight.data_ptr(), weight.data_ptr() + weight.nbytes
                inside += weight.nbytes * any(low <= start and end <= high for low, high, _ in mapped)
    return inside / total


def test_weights_stay_in_the_mapped_files(pipeline):
    assert mapped_share(pipeline) == 1.0


def test_a_cast_materialises_weights():
    assert mapped_share(load_pipeline("synthetic:sd3-tiny", "bf16")) == 0.0
