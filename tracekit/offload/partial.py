"""Sequential offload of a denoiser of which some weights stay on the device, through accelerate's public hooks.

Every module that owns tensors gets the hook that sequential offload gives it. Only where its weights come from
differs: a module with all of them resident has a hook that moves its inputs and nothing else; one with a part of them
resident finds those on the device already in its weights map, and the rest in host memory.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils import named_module_tensors
from torch import nn

from tracekit.offload.weights import memory_key, tied_groups


def place_resident(denoiser: nn.Module, names: Collection[str], device: torch.device) -> None:
    """Move the named parameters, and whatever is tied to them, to `device`; each is copied once."""
    keys = {memory_key(denoiser.get_parameter(name)) for name in names}
    with torch.no_grad():
        for group in tied_groups(denoiser.parameters()):
            if memory_key(group[0]) in keys:
                moved = group[0].data.to(device)
                for parameter in group:
                    parameter.data = moved


def stream_the_rest(denoiser: nn.Module, device: torch.device) -> None:
    """Attach hooks that onload what is not on `device` yet around each module's forward.

    Buffers go where sequential offload has them: on the device from now on, or, in a model whose root module owns
    parameters itself, the persistent ones are streamed.
    """
    stream_buffers = any(True for _ in denoiser.parameters(recurse=False))
    # As cpu_offload does: the root gives its outputs back on the device that its inputs were on.
    add_hook_to_module(denoiser, AlignDevicesHook(io_same_device=True), append=True)
    for owner in denoiser.modules():
        if any(True for _ in named_module_tensors(owner)):
            add_hook_to_module(owner, _hook(owner, device, stream_buffers), append=True)


def _hook(owner: nn.Module, device: torch.device, stream_buffers: bool) -> AlignDevicesHook:
    weights = {
        name: tensor.detach()
        for name, tensor in named_module_tensors(owner, include_buffers=stream_buffers, remove_non_persistent=True)
    }
    if all(weight.device == device for weight in weights.values()):
        return AlignDevicesHook(execution_device=device)
    return AlignDevicesHook(execution_device=device, offload=True, weights_map=weights, offload_buffers=stream_buffers)
