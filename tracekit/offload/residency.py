"""Which of the denoisers' weights partial offload keeps on the device."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import nn

from tracekit.errors import UsageError
from tracekit.offload.options import OffloadOptions
from tracekit.offload.weights import components, memory_key, size_bytes, tensors
from tracekit.units import format_memory

_DENOISER = re.compile(r"(transformer|unet|prior)(_\d+)?")


@dataclass(frozen=True)
class _Owner:
    """A module that owns parameters itself, kept or streamed as one; those that an earlier one owns too are not its."""

    position: int
    names: tuple[str, ...]
    size_bytes: int


def denoisers(pipeline: Any) -> dict[str, nn.Module]:
    """The components that are taken for the denoiser before any run has shown it, in the pipeline's order.

    They are the components named ``transformer``, ``unet`` or ``prior``, with or without a number (``transformer_2``);
    in a pipeline that has none, the component with the most bytes of weights.

    Raises:
        UsageError: the pipeline has no component with weights.
    """
    parts = components(pipeline)
    if not parts:
        raise UsageError(f"{type(pipeline).__name__} has no component with weights to offload")
    named = {name: part for name, part in parts.items() if _DENOISER.fullmatch(name)}
    if named:
        return named
    largest = max(parts, key=lambda name: size_bytes(tensors(parts[name])))
    return {largest: parts[largest]}


def choose_resident(module: nn.Module, budget_bytes: int, order: str) -> frozenset[str]:
    """Names (relative to `module`) of the parameters that stay on the device within `budget_bytes`.

    Modules are taken whole, with the parameters that they own directly, since a weight that is resident without its
    bias saves no onload. They are taken in `order`, a name of `modes.RESIDENT_ORDERS`, passing over what does not fit
    any more. A tied parameter counts once and belongs to the first module that has it. The result never exceeds the
    budget, its size never shrinks when the budget grows, and it only depends on the model's shape.
    """
    owners = _owners(module)
    chosen: list[str] = []
    left = budget_bytes
    for owner in _ordered(owners, order):
        if owner.size_bytes <= left:
            chosen.extend(owner.names)
            left -= owner.size_bytes
    return frozenset(chosen)


def resident_parameters(pipeline: Any, options: OffloadOptions) -> dict[str, frozenset[str]]:
    """For each denoiser, the names (relative to it) of the parameters that `options` keep on the device.

    With several denoisers each gets the part of the budget that it has of their bytes.

    Raises:
        UsageError: a name in `options.resident_parameters` is no denoiser's, or they exceed the budget.
    """
    parts = denoisers(pipeline)
    if options.resident_parameters is not None:
        chosen = _named(parts, options.resident_parameters)
        _check_budget(parts, chosen, options.resident_bytes)
        return chosen
    budget = options.resident_bytes or 0
    sizes = {name: size_bytes(part.parameters()) for name, part in parts.items()}
    total = sum(sizes.values()) or 1
    return {
        name: choose_resident(part, budget * sizes[name] // total, options.resident_order)
        for name, part in parts.items()
    }


def _owners(module: nn.Module) -> list[_Owner]:
    owners: list[_Owner] = []
    seen: set[Hashable] = set()
    for prefix, part in module.named_modules():
        names, size = [], 0
        for name, parameter in part.named_parameters(prefix=prefix, recurse=False):
            key = memory_key(parameter)
            if key not in seen:
                seen.add(key)
                names.append(name)
                size += parameter.nbytes
        if names:
            owners.append(_Owner(len(owners), tuple(names), size))
    return owners


def _ordered(owners: Sequence[_Owner], order: str) -> list[_Owner]:
    if order == "smallest":
        return sorted(owners, key=lambda owner: (owner.size_bytes, owner.position))
    if order == "largest":
        return sorted(owners, key=lambda owner: (-owner.size_bytes, owner.position))
    if order == "strided":
        return [owners[position] for position in _halving(len(owners))]
    return list(owners)


def _halving(count: int) -> list[int]:
    """0 to `count` - 1 in bit-reversed order: every prefix is spread evenly over the whole."""
    bits = max(count - 1, 0).bit_length()
    reversed_ = (int(f"{number:0{bits}b}"[::-1], 2) if bits else 0 for number in range(1 << bits))
    return [number for number in reversed_ if number < count]


def _named(parts: dict[str, nn.Module], wanted: frozenset[str]) -> dict[str, frozenset[str]]:
    chosen: dict[str, set[str]] = {name: set() for name in parts}
    unknown = set(wanted)
    for component, part in parts.items():
        for name, _ in part.named_parameters():
            matches = wanted.intersection(accumulate(f"{component}.{name}".split("."), "{}.{}".format))
            if matches:
                chosen[component].add(name)
                unknown -= matches
    if unknown:
        raise UsageError(f"{min(unknown)!r} names no parameter and no module of {', '.join(parts)}")
    return {component: frozenset(names) for component, names in chosen.items()}


def _check_budget(parts: dict[str, nn.Module], chosen: dict[str, frozenset[str]], budget: int | None) -> None:
    if budget is None:
        return
    size = sum(size_bytes(part.get_parameter(name) for name in chosen[component]) for component, part in parts.items())
    if size > budget:
        raise UsageError(
            f"the parameters named to be resident take {format_memory(size)}, "
            f"{format_memory(size - budget)} above the budget of {format_memory(budget)}"
        )
