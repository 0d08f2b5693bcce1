"""Say which device is meant, and get it ready: the emulated one built, the memory cap and the link's throttle set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from tracekit.device import emulated
from tracekit.errors import MissingError, UsageError
from tracekit.units import format_memory


@dataclass(frozen=True)
class DeviceChoice:
    """The device that is profiled: what it is, and torch's name of it (``cuda:0``, ``emulated:0``)."""

    kind: Literal["cuda", "emulated"]
    torch_device: str


def resolve_device(name: str = "auto") -> DeviceChoice:
    """The device that a name means; ``auto`` is the first GPU, or the emulated device where there is none.

    Raises:
        UsageError: no such kind of device, or ``cpu``, which nothing can be offloaded from.
        MissingError: the GPU is not there, or the emulated device cannot be built here.
    """
    kind, _, index = name.partition(":")
    if kind == "auto" and not index:
        return resolve_device("cuda" if torch.cuda.is_available() else "emulated")
    if kind == "cpu":
        raise UsageError(
            "nothing is offloaded from cpu to cpu: accelerate copies no byte there; use --device emulated without a GPU"
        )
    if kind not in ("cuda", "emulated") or (index and not index.isdecimal()) or (not index and ":" in name):
        raise UsageError(f"unknown device {name!r}: give auto, cuda, cuda:N or emulated")
    return _cuda(int(index or 0)) if kind == "cuda" else _emulated(int(index or 0))


def prepare_device(choice: DeviceChoice, cap_bytes: int | None, link_gbps: float | None) -> None:
    """Make the device usable in this process, with at most `cap_bytes` of memory and a link of `link_gbps` (GB/s).

    None for either leaves the device's own limit. Only the emulated device's link can be slowed down.

    Raises:
        UsageError: a cap above the device's memory, a throttle that is not positive, or one for a real link.
        MissingError: the emulated device cannot be built here.
    """
    if link_gbps is not None and not link_gbps > 0:
        raise UsageError(f"a link of {link_gbps:g} GB/s carries nothing: give a rate above zero")
    if choice.kind == "emulated":
        device = emulated.load()
        _check_cap(cap_bytes, device.total_bytes(), "the emulated device (the host's memory)")
        device.set_cap(cap_bytes)
        device.set_link_gbps(link_gbps)
        return
    if link_gbps is not None:
        raise UsageError("a real link cannot be slowed down: --link-gbps is for the emulated device")
    if cap_bytes is not None:
        properties = torch.cuda.get_device_properties(choice.torch_device)
        _check_cap(cap_bytes, properties.total_memory, properties.name)
        torch.cuda.set_per_process_memory_fraction(cap_bytes / properties.total_memory, choice.torch_device)


def _cuda(index: int) -> DeviceChoice:
    if not torch.cuda.is_available():
        raise MissingError("torch sees no CUDA GPU here; use --device emulated to profile without one")
    count = torch.cuda.device_count()
    if index >= count:
        raise MissingError(f"there is no cuda:{index}: torch sees {count} GPU(s), numbered from 0")
    return DeviceChoice("cuda", f"cuda:{index}")


def _emulated(index: int) -> DeviceChoice:
    if index != 0:
        raise MissingError(f"there is no emulated:{index}: there is one emulated device, emulated:0")
    emulated.check_available()
    return DeviceChoice("emulated", emulated.EmulatedDevice.torch_device)


def _check_cap(cap_bytes: int | None, total_bytes: int, name: str) -> None:
    if cap_bytes is not None and cap_bytes > total_bytes:
        raise UsageError(f"a cap of {format_memory(cap_bytes)} is above the {format_memory(total_bytes)} of {name}")
