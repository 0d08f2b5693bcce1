"""Build a synthetic pipeline's folder from its recipe, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from diffusers import DiffusionPipeline, ModelMixin
from safetensors.torch import save_file

from tracekit.workload.defaults import DEFAULTS_FILE, FolderDefaults, WriteProgress
from tracekit.workload.folders import check_space, whole_folder
from tracekit.workload.quiet import import_class
from tracekit.workload.recipes import Part, Recipe
from tracekit.workload.tokenizers import build_tokenizer
from tracekit.workload.weights import TensorSpec, tensor_specs, write_random_weights

# Published checkpoints have shards of this size: diffusers' default limit.
MAX_SHARD_BYTES = 10 * 10**9

_EMBEDDINGS_FILE = "prompt_embeds.safetensors"


@dataclass
class _Tally:
    """Bytes written so far, told on."""

    total: int
    progress: WriteProgress | None
    done: int = 0

    def __call__(self, size_bytes: int) -> None:
        self.done += size_bytes
        if self.progress is not None:
            self.progress(self.done, self.total)


def build_folder(
    recipe: Recipe,
    destination: Path,
    progress: WriteProgress | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write the pipeline to `destination`, which must not exist; it appears when it is whole.

    Raises:
        UsageError: the disk has too little room, or became full, or is read-only.
    """
    dtype: torch.dtype = getattr(torch, recipe.dtype)
    components = {name: build_component(part) if part else None for name, part in recipe.parts.items()}
    models = {name: model for name, model in components.items() if isinstance(model, torch.nn.Module)}
    specs = {name: tensor_specs(model, dtype) for name, model in models.items()}
    total_bytes = sum(spec.size_bytes for part in specs.values() for spec in part)
    check_space(destination, total_bytes)
    tally = _Tally(total_bytes, progress)
    with whole_folder(destination) as folder:
        pipeline: DiffusionPipeline = import_class(recipe.pipeline)(**components, **recipe.settings)
        pipeline.save_config(folder)
        for name, component in components.items():
            if name in models:
                _write_model(component, folder / name, specs[name], dtype, max_shard_bytes, tally)
            elif component is not None:
                component.save_pretrained(folder / name)
        _write_defaults(recipe, folder, dtype)


def build_component(part: Part) -> Any:
    """The component; a model has its shapes but no memory for its weights."""
    part_class = import_class(part.class_name)
    if issubclass(part_class, ModelMixin):
        with torch.device("meta"):
            return part_class.from_config(dict(part.config))
    if issubclass(part_class, torch.nn.Module):
        with torch.device("meta"):
            return part_class(part_class.config_class(**part.config))
    if part.class_name.startswith("transformers."):
        return build_tokenizer(part_class, **part.config)
    return part_class(**part.config)


def _write_model(
    model: Any, folder: Path, specs: list[TensorSpec], dtype: torch.dtype, max_shard_bytes: int, tally: _Tally
) -> None:
    folder.mkdir()
    if isinstance(model, ModelMixin):
        model.save_config(folder)
        stem = "diffusion_pytorch_model"
    else:
        # What transformers' save_pretrained adds to a config.
        model.config.architectures = [type(model).__name__]
        model.config.dtype = dtype
        model.config.save_pretrained(folder)
        stem = "model"
    write_random_weights(folder, stem, specs, max_shard_bytes, tally)


def _write_defaults(recipe: Recipe, folder: Path, dtype: torch.dtype) -> None:
    defaults = FolderDefaults(call=dict(recipe.call), recipe=recipe.fingerprint())
    if recipe.embeddings:
        generator = torch.Generator().manual_seed(0)
        tensors = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in recipe.embeddings.items()}
        save_file(tensors, folder / _EMBEDDINGS_FILE, metadata={"format": "pt"})
        defaults.embeddings_file = _EMBEDDINGS_FILE
    files = (path for path in folder.rglob("*") if path.is_file())
    defaults.files = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(files)}
    (folder / DEFAULTS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(defaults), indent=2) + b"\n")
