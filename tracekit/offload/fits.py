"""Foretell whether an offload mode's weights fit under the device's cap, from the weights' sizes alone."""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Any

from torch import nn

from tracekit.errors import UsageError
from tracekit.offload.modes import GROUP_LEVELS, modes
from tracekit.offload.options import OffloadOptions
from tracekit.offload.residency import denoisers, resident_parameters
from tracekit.offload.weights import components, memory_key, size_bytes, tensors
from tracekit.units import format_memory


def check_fits(pipeline: Any, options: OffloadOptions, cap_bytes: int | None) -> None:
    """Refuse a mode whose weights alone cannot fit; activations come on top and are not foretold.

    Raises:
        UsageError: by how much it is over the cap, and which modes would fit.
    """
    if cap_bytes is None:
        return
    need = needed_bytes(pipeline, options)
    if need <= cap_bytes:
        return
    raise UsageError(
        f"{_title(options)} needs {format_memory(need)} on the device for weights alone, "
        f"{format_memory(need - cap_bytes)} above the cap of {format_memory(cap_bytes)}; "
        f"{_what_fits(pipeline, options, cap_bytes)}"
    )


def needed_bytes(pipeline: Any, options: OffloadOptions) -> int:
    """The least device memory (bytes) in which the mode can hold its weights at its worst moment.

    That is: resident, all weights; model, the largest component; sequential and partial, the largest module with the
    modules around it, whose own weights are on the device meanwhile, and what never leaves it (the resident weights,
    the buffers); group, the same, or the largest group of blocks.
    """
    parts = components(pipeline)
    if options.mode == "resident":
        return size_bytes(tensor for part in parts.values() for tensor in tensors(part))
    if options.mode == "model":
        return max((size_bytes(tensors(part)) for part in parts.values()), default=0)
    if options.mode == "group":
        blocks = (options.blocks_per_group or 1) if options.level == "block_level" else None
        return max((_group_peak(part, blocks) for part in parts.values()), default=0)
    resident: set[Hashable] = set()
    kept = 0
    if options.mode == "partial":
        chosen = resident_parameters(pipeline, options)
        for name, part in denoisers(pipeline).items():
            weights = [part.get_parameter(parameter) for parameter in chosen[name]]
            resident.update(memory_key(weight) for weight in weights)
            kept += size_bytes(weights)
    kept += size_bytes(buffer for part in parts.values() if not _owns_parameters(part) for buffer in part.buffers())
    return kept + max((_path_peak(part, resident) for part in parts.values()), default=0)


def _path_peak(module: nn.Module, resident: Container[Hashable] = frozenset()) -> int:
    """The most bytes of parameters that a module of the tree and the modules around it own together."""
    own = size_bytes(
        parameter for parameter in module.parameters(recurse=False) if memory_key(parameter) not in resident
    )
    return own + max((_path_peak(child, resident) for child in module.children()), default=0)


def _group_peak(part: nn.Module, blocks: int | None) -> int:
    """A floor of what group offload holds at once: what the root owns, and its largest module or group of `blocks`."""
    if blocks is None:
        return _path_peak(part)
    lists = [list(child) for child in part.children() if isinstance(child, nn.ModuleList | nn.Sequential)]
    groups = [child[start : start + blocks] for child in lists for start in range(0, len(child), blocks)]
    own = size_bytes(part.parameters(recurse=False))
    sizes = (size_bytes(tensor for block in group for tensor in tensors(block)) for group in groups)
    return own + max(sizes, default=0)


def _owns_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _title(options: OffloadOptions) -> str:
    if options.mode == "group":
        return f"group offload at {options.level}"
    return f"mode {options.mode}"


def _what_fits(pipeline: Any, options: OffloadOptions, cap_bytes: int) -> str:
    floor = needed_bytes(pipeline, OffloadOptions(mode="sequential"))
    if floor > cap_bytes:
        return f"no mode fits: even sequential offload needs {format_memory(floor)}"
    if options.mode == "partial":
        return f"a resident budget of at most {format_memory(cap_bytes - floor)} would fit"
    others = [OffloadOptions(mode=name) for name in modes() if name not in ("group", "partial")]
    others += [OffloadOptions(mode="group", group_level=level) for level in GROUP_LEVELS]
    fitting = [(other, needed_bytes(pipeline, other)) for other in others]
    listed = ", ".join(f"{_title(other)} ({format_memory(need)})" for other, need in fitting if need <= cap_bytes)
    return f"what would fit: {listed}"
