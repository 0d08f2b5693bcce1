"""Which weights a module has and which share memory, from metadata alone: no page of an mmapped weight is touched."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn


def components(pipeline: Any) -> dict[str, nn.Module]:
    """The pipeline's components that hold weights, by name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def memory_key(tensor: torch.Tensor) -> Hashable:
    """Equal for tensors that are the same weight: the same memory seen in the same way.

    safetensors gives every tensor of a file as a view of one storage, so the storage alone would not tell them apart.
    A tensor without memory (meta, or empty) is only equal to itself.
    """
    if tensor.device.type == "meta" or tensor.numel() == 0:
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Every parameter and buffer of `module` and its submodules, each object once."""
    yield from module.parameters()
    yield from module.buffers()


def shares_parameters(module: nn.Module) -> bool:
    """Whether two of its submodules have one parameter object between them."""
    places = sum(1 for _ in module.named_parameters(remove_duplicate=False))
    return places > sum(1 for _ in module.parameters())


def shared_module(parts: Mapping[str, nn.Module]) -> tuple[str, str] | None:
    """Both paths of a module with weights that is in two components; None where there is none."""
    first: dict[nn.Module, str] = {}
    for name, part in parts.items():
        own = {module: f"{name}.{path}".rstrip(".") for path, module in part.named_modules()}
        for module, path in own.items():
            if module in first and any(True for _ in module.parameters()):
                return first[module], path
        first |= own
    return None


def tied_groups(tensors: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors in groups that share their memory, in order of first appearance; most groups hold one."""
    groups: dict[Hashable, dict[int, torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(memory_key(tensor), {})[id(tensor)] = tensor
    return [list(group.values()) for group in groups.values()]


def size_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of these tensors, shared memory counted once."""
    return sum(group[0].nbytes for group in tied_groups(tensors))
