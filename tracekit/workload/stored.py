"""What a pipeline's folder says about itself without loading it: its class, its components, its stored dtypes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tracekit.errors import UsageError

INDEX_FILE = "model_index.json"

# The names under which diffusers and transformers look for a component's weights.
_STEMS = ("diffusion_pytorch_model", "model")
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's ``model_index.json``.

    Raises:
        UsageError: the folder is no pipeline, or the file is damaged.
    """
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no diffusers pipeline: it has no {INDEX_FILE} (save one with save_pretrained)"
        ) from None
    except (ValueError, OSError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise UsageError(f"{path} is damaged: it names no pipeline class")
    return index


def absent_components(index: dict[str, Any]) -> list[str]:
    """Components that the pipeline knows and was saved without."""
    return [name for name, value in index.items() if isinstance(value, list) and value and value[0] is None]


def stored_dtypes(folder: Path) -> dict[str, torch.dtype]:
    """The floating-point dtype that most bytes of each component have in their safetensors files.

    Loaded in that dtype, the weights stay in the mmapped file; in any other they are materialised. A component
    without safetensors files is left out.
    """
    found = {}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        sizes: Counter[torch.dtype] = Counter()
        for file in _weight_files(part):
            sizes.update(_bytes_by_dtype(file))
        if sizes:
            found[part.name] = sizes.most_common(1)[0][0]
    return found


def _weight_files(part: Path) -> list[Path]:
    for stem in _STEMS:
        whole = part / f"{stem}.safetensors"
        index = part / f"{stem}.safetensors.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            try:
                names = json.loads(index.read_text())["weight_map"].values()
            except (ValueError, KeyError) as error:
                raise UsageError(f"{index} is damaged: {error}") from error
            return [part / name for name in sorted(set(names))]
    return []


def _bytes_by_dtype(file: Path) -> Counter[torch.dtype]:
    """Bytes by dtype, from the file's header alone: eight bytes of length, then JSON."""
    sizes: Counter[torch.dtype] = Counter()
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] in _DTYPES:
                start, end = entry["data_offsets"]
                sizes[_DTYPES[entry["dtype"]]] += end - start
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise UsageError(f"{file} is missing or damaged: {error}") from error
    return sizes
