"""Let `safetensors.torch.load_file(path, device="emulated")` work; diffusers' group offload to disk calls it.

Why: safetensors parses device names in Rust and knows only torch's own. For a GPU it maps the file and copies each
tensor from the mapping to the device; so does this, one copy a tensor, straight from the mapped file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import safetensors.torch
import torch


def install() -> None:
    """Replace `safetensors.torch.load_file`, once a process."""
    if not hasattr(safetensors.torch.load_file, "__wrapped__"):
        safetensors.torch.load_file = _with_emulated_device(safetensors.torch.load_file)


def _with_emulated_device(load_file: Callable[..., dict[str, torch.Tensor]]) -> Callable[..., dict[str, torch.Tensor]]:
    @functools.wraps(load_file)
    def load(filename: Any, device: str | int | torch.device = "cpu", **options: Any) -> dict[str, torch.Tensor]:
        if not isinstance(device, int) and torch.device(device).type == "emulated":
            return {name: tensor.to(device) for name, tensor in load_file(filename, **options).items()}
        return load_file(filename, device=device, **options)

    return load
