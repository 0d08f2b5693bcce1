"""Apply an offload mode to a pipeline, with every piece of the work inside a set-up span."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from tracekit.errors import UsageError
from tracekit.offload.former import refusals, remove_former
from tracekit.offload.host_memory import hold_host_copy
from tracekit.offload.options import OffloadOptions
from tracekit.offload.partial import place_resident, stream_the_rest
from tracekit.offload.residency import denoisers, resident_parameters
from tracekit.offload.setup import SetupSpans
from tracekit.offload.weights import components, shared_module, shares_parameters

__all__ = ["SetupSpans", "apply_offload"]


def apply_offload(pipeline: Any, options: OffloadOptions, device: str, setup: SetupSpans) -> None:
    """Apply the mode to a diffusers pipeline; `check_options` and `check_fits` come before.

    A mode applied earlier is removed first.

    Args:
        pipeline: A `DiffusionPipeline`.
        options: The mode and its options.
        device: Where the model runs, by torch's name: ``cuda:0``, ``emulated:0``.
        setup: Opens a set-up span around each piece of work.

    Raises:
        UsageError: diffusers refuses the mode for this pipeline or would fail in it, or a former one cannot be removed.
    """
    if options.mode in ("sequential", "partial"):
        _refuse_shared_modules(pipeline, options.mode)
    target = torch.device(device if ":" in device else f"{device}:0")
    remove_former(pipeline, setup)
    with refusals(f"{options.mode} offload here"):
        match options.mode:
            case "resident":
                with setup("move weights to the device"):
                    pipeline.to(target)
            case "model":
                with setup("attach model offload"):
                    pipeline.enable_model_cpu_offload(device=target)
            case "sequential":
                _sequential(pipeline, options, target, setup)
            case "partial":
                _partial(pipeline, options, target, setup)
            case "group":
                _group(pipeline, options, target, setup)


def _refuse_shared_modules(pipeline: Any, mode: str) -> None:
    """Refuse what accelerate 1.15 fails in: it offloads such a module again from weights that it has emptied."""
    shared = shared_module(components(pipeline))
    if shared is not None:
        raise UsageError(
            f"{mode} offload cannot do this pipeline: {' and '.join(shared)} are one module, which accelerate would "
            "offload twice; use --offload model or group, or give each component a copy of its own"
        )


def _sequential(pipeline: Any, options: OffloadOptions, device: torch.device, setup: SetupSpans) -> None:
    hold_host_copy(components(pipeline), options.host_memory, setup)
    with setup("attach sequential offload"):
        pipeline.enable_sequential_cpu_offload(device=device)


def _partial(pipeline: Any, options: OffloadOptions, device: torch.device, setup: SetupSpans) -> None:
    parts = denoisers(pipeline)
    resident = resident_parameters(pipeline, options)
    # Before the host copy is made: what is resident needs none.
    for name, part in parts.items():
        with setup(f"place resident weights: {name}"):
            place_resident(part, resident[name], device)
    hold_host_copy(components(pipeline), options.host_memory, setup)
    with setup("attach sequential offload"), _withheld(pipeline, parts):
        pipeline.enable_sequential_cpu_offload(device=device)
    for name, part in parts.items():
        with setup(f"attach partial offload: {name}"):
            stream_the_rest(part, device)


def _group(pipeline: Any, options: OffloadOptions, device: torch.device, setup: SetupSpans) -> None:
    hold_host_copy(components(pipeline), options.host_memory, setup)
    for name, part in components(pipeline).items():
        disk_path = None if options.disk_path is None else _disk_folder(part, name, options)
        enable = getattr(part, "enable_group_offload", None)
        arguments = {
            "onload_device": device,
            "offload_type": options.level,
            "num_blocks_per_group": (options.blocks_per_group or 1) if options.level == "block_level" else None,
            "use_stream": options.stream,
            "record_stream": options.record_stream,
            "low_cpu_mem_usage": options.low_cpu_mem,
            "offload_to_disk_path": disk_path,
        }
        with setup(f"attach group offload: {name}"):
            if enable is None:
                apply_group_offloading(part, **arguments)
            else:
                enable(**arguments)


def _disk_folder(part: nn.Module, name: str, options: OffloadOptions) -> str | None:
    """Where a component's groups are kept as files; None keeps them in host memory.

    diffusers names a group's file after its module alone, so that two components' files would collide in one folder.
    At leaf level diffusers 0.42.1 gives a weight that two modules share (T5's embedding) to a group for each, and the
    second group saves what the first has already emptied: such components stay in host memory.
    """
    if options.level == "leaf_level" and shares_parameters(part):
        return None
    return str(Path(str(options.disk_path)) / name)


@contextmanager
def _withheld(pipeline: Any, names: Iterable[str]) -> Iterator[None]:
    """The pipeline without these components: what is None, `enable_sequential_cpu_offload` leaves alone."""
    parts = {name: getattr(pipeline, name) for name in names}
    pipeline.register_modules(**dict.fromkeys(parts))
    try:
        yield
    finally:
        pipeline.register_modules(**parts)
