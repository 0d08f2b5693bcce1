"""The large synthetic pipelines have the published models' shapes; nothing of their size is written here."""

from __future__ import annotations

import pytest
import torch

from tracekit.workload.build import build_component
from tracekit.workload.recipes import Recipe
from tracekit.workload.synthetic import SYNTHETIC
from tracekit.workload.weights import tensor_specs


def parameter_counts(recipe: Recipe) -> dict[str, int]:
    counts = {}
    for name, part in recipe.parts.items():
        component = build_component(part) if part else None
        if isinstance(component, torch.nn.Module):
            counts[name] = sum(weight.numel() for weight in component.parameters())
    return counts


def size_bytes(recipe: Recipe) -> int:
    dtype = getattr(torch, recipe.dtype)
    models = [build_component(part) for part in recipe.parts.values() if part]
    return sum(
        spec.size_bytes for model in models if isinstance(model, torch.nn.Module) for spec in tensor_specs(model, dtype)
    )


def test_flux_dev_counts_parameters_as_published():
    # From the headers of the checkpoint's files, black-forest-labs/FLUX.1-dev.
    assert parameter_counts(SYNTHETIC["flux-dev"]) == {
        "text_encoder": 123_060_480,
        "text_encoder_2": 4_762_310_656,
        "transformer": 11_901_408_320,
        "vae": 83_819_683,
    }


def test_sdxl_counts_parameters_as_published():
    # stabilityai/stable-diffusion-xl-base-1.0.
    assert parameter_counts(SYNTHETIC["sdxl"]) == {
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "unet": 2_567_463_684,
        "vae": 83_653_863,
    }


@pytest.mark.parametrize(
    ("name", "at_least", "at_most"),
    [
        ("flux-tiny", 60e6, 120e6),
        ("flux-small", 0.9e9, 1.1e9),
        ("flux-dev", 33e9, 34e9),
        ("flux-dev-denoiser", 23.7e9, 23.9e9),
        ("sdxl-tiny", 5e6, 20e6),
        ("sd3-tiny", 5e6, 20e6),
        ("wan-tiny", 2e6, 20e6),
    ],
)
def test_sizes_are_as_described(name, at_least, at_most):
    assert at_least <= size_bytes(SYNTHETIC[name]) <= at_most


def test_flux_dev_denoiser_has_the_modules_that_were_measured():
    transformer = build_component(SYNTHETIC["flux-dev-denoiser"].parts["transformer"])
    leaves = [
        module
        for module in transformer.modules()
        if not list(module.children()) and list(module.parameters(recurse=False))
    ]
    assert len(leaves) == 656


def test_every_recipe_has_its_own_fingerprint():
    assert len({recipe.fingerprint() for recipe in SYNTHETIC.values()}) == len(SYNTHETIC)
