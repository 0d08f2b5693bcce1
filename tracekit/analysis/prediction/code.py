"""The lines to paste into one's own program for a configuration: public names of diffusers and accelerate alone."""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.model.plan import Configuration

_PIN = '''\
def pin(modules, block=1 << 30):
    """Page-lock weights in large blocks: torch rounds up every allocation."""
    room, used = torch.empty(0, dtype=torch.uint8), 0
    for tensor in [t for m in modules for t in (*m.parameters(), *m.buffers())]:
        if tensor.device.type != "cpu" or not tensor.numel():
            continue
        if used + tensor.nbytes > room.numel():
            size = max(block, tensor.nbytes)
            room = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            used = 0
        place = room[used : used + tensor.nbytes].view(tensor.dtype)
        tensor.data = place.view(tensor.shape).copy_(tensor.data)
        used += -(-tensor.nbytes // 256) * 256
'''
_MODULES = "modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]"
_CLONE = """\
for module in modules:
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
"""
_KEEP = """\
for component, denoiser in denoisers.items():
    for name, parameter in denoiser.named_parameters(component):
        if any(f"{name}.".startswith(f"{kept}.") for kept in resident):
            parameter.data = parameter.data.to(device)
"""
_STREAM_REST = """\
pipe.register_modules(**dict.fromkeys(denoisers))
pipe.enable_sequential_cpu_offload(device=device)
pipe.register_modules(**denoisers)
for denoiser in denoisers.values():
    add_hook_to_module(denoiser, AlignDevicesHook(io_same_device=True), append=True)
    buffers = any(True for _ in denoiser.parameters(recurse=False))
    for owner in denoiser.modules():
        held = named_module_tensors(owner, buffers, remove_non_persistent=True)
        weights = {name: weight.detach() for name, weight in held}
        if all(weight.device == device for weight in weights.values()):
            hook = AlignDevicesHook(device)
        else:
            hook = AlignDevicesHook(
                device, offload=True, weights_map=weights, offload_buffers=buffers
            )
        if any(True for _ in named_module_tensors(owner)):
            add_hook_to_module(owner, hook, append=True)
"""


def code_for(configuration: Configuration, device: str, denoisers: Sequence[str], resident: Sequence[str]) -> str:
    """Python that sets the configuration up on ``pipe``, a pipeline just loaded.

    Args:
        configuration: The configuration.
        device: torch's name of the device: ``cuda``, ``cuda:0``.
        denoisers: The components called inside the denoising loop.
        resident: partial: names of parameters or modules that stay, component included.
    """
    match configuration.mode:
        case "resident":
            return f'pipe.to("{device}")\n'
        case "model":
            return f'pipe.enable_model_cpu_offload(device="{device}")\n'
        case "sequential":
            enable = f'pipe.enable_sequential_cpu_offload(device="{device}")\n'
            return _held(configuration) + enable
        case "group":
            return _group(configuration, device)
        case "partial":
            return _partial(configuration, device, denoisers, resident)
    return ""


def _held(configuration: Configuration) -> str:
    """The host copy as asked for, with the imports that it needs."""
    if configuration.host_memory == "pinned":
        return f"import torch\n\n\n{_PIN}\n\n{_MODULES}\npin(modules)\n"
    if configuration.host_memory == "anonymous":
        return f"import torch\n\n{_MODULES}\n{_CLONE}"
    return ""


def _group(configuration: Configuration, device: str) -> str:
    arguments = [f'onload_device=torch.device("{device}")', f'offload_type="{configuration.group_level}"']
    if configuration.group_level == "block_level":
        arguments.append(f"num_blocks_per_group={configuration.blocks_per_group}")
    flags = {
        "use_stream": configuration.stream,
        "record_stream": configuration.record_stream,
        "low_cpu_mem_usage": configuration.low_cpu_mem,
    }
    arguments += [f"{name}=True" for name, is_set in flags.items() if is_set]
    lines = [
        "import torch",
        "from diffusers.hooks import apply_group_offloading",
        "",
        _MODULES,
        "for module in modules:",
        "    apply_group_offloading(",
        "        module,",
        *(f"        {argument}," for argument in arguments),
        "    )",
    ]
    return "\n".join(lines) + "\n"


def _partial(configuration: Configuration, device: str, denoisers: Sequence[str], resident: Sequence[str]) -> str:
    head = (
        "import torch\n"
        "from accelerate.hooks import AlignDevicesHook, add_hook_to_module\n"
        "from accelerate.utils import named_module_tensors\n\n"
    )
    pinned = configuration.host_memory == "pinned"
    if pinned:
        head += f"\n{_PIN}\n\n"
    index = device if ":" in device else f"{device}:0"
    held = ", ".join(f'"{name}": pipe.{name}' for name in denoisers)
    kept = "".join(f'    "{name}",\n' for name in resident)
    chosen = f'device = torch.device("{index}")\ndenoisers = {{{held}}}\nresident = [\n{kept}]\n'
    pin = f"{_MODULES}\npin(modules)\n" if pinned else ""
    return head + chosen + _KEEP + pin + _STREAM_REST
