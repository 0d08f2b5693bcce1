"""Tell from a Tensor method's arguments whether the call will move bytes between host and device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Predicate = Callable[[torch.Tensor, tuple[Any, ...], dict[str, Any]], bool]


class Sides(dict[Any, bool | None]):
    """What a target of ``Tensor.to`` is: True the host, False a device, None neither (a dtype, meta).

    Asking a torch.device for its type costs more than a look-up, and there are few of them. Tensors as targets are not
    kept.
    """

    def __missing__(self, target: Any) -> bool | None:
        if isinstance(target, torch.Tensor):
            return None if target.is_meta else target.is_cpu
        self[target] = side = _side(target)
        return side


class Holders(dict[type, bool]):
    """Whether tensors of a class hold their bytes themselves.

    One with a ``__torch_dispatch__`` of its own may have none: fake tensors of a compiler, wrappers of quantized ones.
    What such a wrapper moves are plain tensors, whose copies are seen.
    """

    def __missing__(self, cls: type) -> bool:
        dispatch = getattr(cls, "__torch_dispatch__", None)
        self[cls] = holds = dispatch is torch.Tensor.__torch_dispatch__
        return holds


def _side(target: Any) -> bool | None:
    if target is None or isinstance(target, torch.dtype):
        return None
    if isinstance(target, int):  # an accelerator's index
        return False
    kind = torch.device(target).type
    return None if kind == "meta" else kind == "cpu"


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


PREDICATES: dict[str, Predicate] = {"from_host": from_host, "to_host": to_host, "copy_": copy_, "setitem": setitem}
"""Every test but that of ``Tensor.to``, which needs `Sides`."""
