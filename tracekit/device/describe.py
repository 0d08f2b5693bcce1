"""Describe the device for the manifest: its name, memory, link and driver."""

from __future__ import annotations

import contextlib

import pynvml
import torch

from tracekit.device import emulated
from tracekit.device.choice import DeviceChoice
from tracekit.model import DeviceInfo


def describe_device(choice: DeviceChoice, cap_bytes: int | None) -> DeviceInfo:
    """What the manifest says of the device; fields that NVML would know stay empty where it is absent.

    The device must be ready (`prepare_device`).
    """
    if choice.kind == "emulated":
        return _describe_emulated(choice, cap_bytes)
    properties = torch.cuda.get_device_properties(choice.torch_device)
    link, driver = _link_and_driver(str(properties.uuid))
    return DeviceInfo(
        kind="cuda",
        name=properties.name,
        torch_device=choice.torch_device,
        total_bytes=properties.total_memory,
        cap_bytes=cap_bytes,
        link=link,
        driver=driver,
    )


def _describe_emulated(choice: DeviceChoice, cap_bytes: int | None) -> DeviceInfo:
    device = emulated.load()
    throttle = f", at most {device.link_gbps:g} GB/s" if device.link_gbps else ""
    return DeviceInfo(
        kind="emulated",
        name=device.name,
        torch_device=choice.torch_device,
        total_bytes=device.total_bytes(),
        cap_bytes=cap_bytes,
        link=f"emulated: memcpy{throttle}",
    )


def _link_and_driver(uuid: str) -> tuple[str, str]:
    """NVML's "PCIe 5.0 x16" and driver version; empty text for what it does not tell (no library, MIG, no rights)."""
    link = driver = ""
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            driver = str(pynvml.nvmlSystemGetDriverVersion())
            # By UUID, since CUDA_VISIBLE_DEVICES renumbers torch's devices but not NVML's.
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            # The maximum that card and slot agree on: the present generation falls when the link is idle.
            generation = pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)
            width = pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)
            link = f"PCIe {generation}.0 x{width}"
        finally:
            pynvml.nvmlShutdown()
    return link, driver
