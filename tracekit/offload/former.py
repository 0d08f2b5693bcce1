"""Take off what an earlier mode put on a pipeline, or say that it cannot be taken off."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.hooks import HookRegistry
from diffusers.hooks.group_offloading import GroupOffloadingHook
from torch import nn

from tracekit.errors import UsageError
from tracekit.offload.setup import SetupSpans
from tracekit.offload.weights import components, memory_key, tensors


def remove_former(pipeline: Any, setup: SetupSpans) -> None:
    """Remove accelerate's hooks and bring all weights back to the host.

    Weights that were streamed are again what they were (an mmapped weight is still mmapped); what was on the device is
    copied back, into ordinary memory.

    Raises:
        UsageError: the pipeline is group-offloaded, or spread over devices by a device map.
    """
    parts = components(pipeline)
    for name, part in parts.items():
        if any(_group_offloaded(module) for module in part.modules()):
            raise UsageError(f"{name} is group-offloaded already, which diffusers cannot undo: load the pipeline anew")
    with setup("remove former hooks"), refusals("to take off what was applied before"):
        pipeline.remove_all_hooks()
        _retie(parts.values())
        if any(tensor.device.type != "cpu" for part in parts.values() for tensor in tensors(part)):
            pipeline.to("cpu", silence_dtype_warnings=True)


def _retie(parts: Iterable[nn.Module]) -> None:
    """Make tied weights one parameter again: accelerate's hooks give every owner one of its own back, on one memory.

    As separate parameters they would be moved to the device once for each owner.
    """
    first: dict[Hashable, nn.Parameter] = {}
    for part in parts:
        for owner in part.modules():
            for name, parameter in list(owner.named_parameters(recurse=False)):
                tied = first.setdefault(memory_key(parameter), parameter)
                if tied is not parameter:
                    setattr(owner, name, tied)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what diffusers refuses (it raises ValueError, with the reason) into one line for the user."""
    try:
        yield
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"diffusers refuses {what}: {reason}") from error


def _group_offloaded(module: nn.Module) -> bool:
    registries = (value for value in vars(module).values() if isinstance(value, HookRegistry))
    return any(isinstance(hook, GroupOffloadingHook) for registry in registries for hook in registry.hooks.values())
