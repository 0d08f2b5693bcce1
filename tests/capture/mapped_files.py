"""Real safetensors files on a real disk, mapped as diffusers maps them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

MB = 1 << 20


class Weights(nn.Module):
    """Layers whose weights lie in a mapped file, `size_bytes` each."""

    def __init__(self, path: Path, count: int = 8, size_bytes: int = 8 * MB) -> None:
        super().__init__()
        side = size_bytes // 4 // 1024
        save_file({f"{n}.weight": torch.rand(side, 1024, generator=_generator(n)) for n in range(count)}, path)
        with torch.device("meta"):
            self.layers = nn.ModuleList(nn.Linear(1024, side, bias=False) for _ in range(count))
        self.requires_grad_(False)
        self.layers.load_state_dict(load_file(path), assign=True)
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Every layer in turn, each on the same input."""
        return torch.stack([layer(x).sum() for layer in self.layers]).sum()

    def tensors(self) -> list[torch.Tensor]:
        return [layer.weight.data for layer in self.layers]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
