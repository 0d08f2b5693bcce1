"""Tell from a Tensor method's arguments whether the call will move bytes between host and device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Predicate = Callable[[torch.Tensor, tuple[Any, ...], dict[str, Any]], bool]


def to(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """``Tensor.to(device | other | dtype, ...)``: the target is on the other side."""
    target = args[0] if args else kwargs.get("device", kwargs.get("other"))
    if target is None or isinstance(target, torch.dtype):
        return False
    if isinstance(target, int):  # an accelerator's index
        return tensor.is_cpu
    if not isinstance(target, torch.device):
        target = target.device if isinstance(target, torch.Tensor) else torch.device(target)
    return (target.type == "cpu") is not tensor.is_cpu and target.type != "meta" and not tensor.is_meta


def from_host(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ARG001
    """``Tensor.cuda()``."""
    return tensor.is_cpu


def to_host(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ARG001
    """``Tensor.cpu()``, ``item()`` and everything that turns a tensor into Python values."""
    return not (tensor.is_cpu or tensor.is_meta)


def copy_(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """``Tensor.copy_(src)``."""
    source = args[0] if args else kwargs.get("src")
    return (
        isinstance(source, torch.Tensor)
        and source.is_cpu is not tensor.is_cpu
        and not (source.is_meta or tensor.is_meta)
    )


def setitem(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """``tensor[index] = value``; a 0-dimensional host value travels as a kernel's argument, not as a copy."""
    value = args[1]
    return isinstance(value, torch.Tensor) and value.dim() > 0 and copy_(tensor, (value,), kwargs)
