"""The emulated accelerator: a torch device whose memory is recycled host memory and whose copies are real and counted.

Unmodified diffusers and accelerate code runs on it without a GPU: each onload and offload is one memcpy between the
true source (a memory-mapped file included) and device memory. Compute runs on the CPU's kernels, in place.
"""

from tracekit.device.emulated.build import check_available
from tracekit.device.emulated.device import DeviceCounters, DeviceMemory, DeviceOp, EmulatedDevice
from tracekit.device.emulated.setup import load

__all__ = ["DeviceCounters", "DeviceMemory", "DeviceOp", "EmulatedDevice", "check_available", "load"]
