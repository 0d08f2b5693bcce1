"""Make the emulated device known to torch, once a process."""

from __future__ import annotations

import threading

import torch
from torch.utils.backend_registration import generate_methods_for_privateuse1_backend, rename_privateuse1_backend

from tracekit.device.emulated import build, safetensors_shim
from tracekit.device.emulated.device import EmulatedDevice
from tracekit.device.emulated.torch_module import EmulatedModule
from tracekit.errors import UsageError

NAME = "emulated"

_lock = threading.Lock()
_device: EmulatedDevice | None = None


def load() -> EmulatedDevice:
    """The process's emulated device, registered with torch as ``emulated``; built first if this machine never did.

    Raises:
        MissingError: no C++ compiler or no Python headers to build it with.
        UsageError: another PrivateUse1 backend is loaded; torch has room for one.
    """
    global _device
    with _lock:
        if _device is None:
            _device = _register()
        return _device


def _register() -> EmulatedDevice:
    present = torch._C._get_privateuse1_backend_name()
    if present != "privateuseone":
        raise UsageError(
            f"the emulated device cannot be used beside the torch device {present!r}: torch has room for one"
        )
    extension = build.load_extension()
    rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, EmulatedModule(extension))
    # Tensor.emulated(), Module.emulated(), storage.is_emulated ...: torch's serialisation calls them.
    generate_methods_for_privateuse1_backend(for_storage=True)
    safetensors_shim.install()
    return EmulatedDevice(extension)
