"""Which device there is and which one this process uses, told without starting CUDA."""

from __future__ import annotations

from pathlib import Path

import torch

from tracekit.device.choice import DeviceChoice
from tracekit.device.emulated import EmulatedDevice

_NVIDIA_DRIVER = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA kernel driver is loaded (or WSL's). Asking torch would fix CUDA_VISIBLE_DEVICES as it is."""
    return any(path.exists() for path in _NVIDIA_DRIVER)


def is_cuda_lost() -> bool:
    """Whether this process was forked from one that had used CUDA, so that it cannot.

    torch tells it under a private name alone; where a build without CUDA lacks it, torch's own stand-in says False.
    """
    return bool(torch.cuda._is_in_bad_fork())


def device_in_use() -> DeviceChoice | None:
    """The device of this process: CUDA where there is one, else the emulated device if it is loaded, else none."""
    if torch.cuda.is_available():
        return DeviceChoice("cuda", f"cuda:{torch.cuda.current_device()}")
    if hasattr(torch, "emulated"):  # where torch puts a registered backend's module
        return DeviceChoice("emulated", EmulatedDevice.torch_device)
    return None
