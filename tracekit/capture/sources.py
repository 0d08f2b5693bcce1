"""Choose what collects device records, memory and counters for a device, and say what is missing."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import torch

from tracekit.capture.allocator import AllocatorHistory
from tracekit.capture.cudaevents import CudaEventActivity
from tracekit.capture.emulated import EmulatedActivity
from tracekit.capture.kineto import KinetoActivity
from tracekit.capture.session import Session
from tracekit.device.emulated import EmulatedDevice, load

if TYPE_CHECKING:
    from tracekit.device.choice import DeviceChoice

Warn = Callable[[str], None]


def watch_device(session: Session, choice: DeviceChoice, activity: str, *, nvml: bool, warn: Warn) -> None:
    """Collect what a device tells: see `watch_cuda` and `watch_emulated`."""
    if choice.kind == "cuda":
        watch_cuda(session, torch.device(choice.torch_device).index or 0, activity, nvml=nvml, warn=warn)
    else:
        watch_emulated(session, load(), torch.get_device_module("emulated"), activity)


def watch_cuda(session: Session, device_index: int, activity: str, *, nvml: bool, warn: Warn) -> None:
    """Collect from a CUDA device: its records, the allocator's history, NVML's counters.

    `activity` is ``auto`` (CUPTI, else CUDA events), ``cupti``, ``cuda-events`` or ``none``. What cannot be had is one
    warning and a blank.
    """
    recorder = session.recorder
    session.watch_device(torch.cuda)
    if activity in ("auto", "cupti"):
        cupti = KinetoActivity(recorder, device_index)
        with recorder.own_work("prime CUPTI"):
            recorder.local.thread.copying = True
            refusal = cupti.refusal()
            recorder.local.thread.copying = False
        if not refusal:
            session.add(cupti)
        else:
            warn(f"CUPTI gives no records ({refusal}): copies are timed by CUDA events, kernels are not seen")
            activity = "cuda-events"
    if activity == "cuda-events":
        session.add(CudaEventActivity(recorder, device_index))
    history = AllocatorHistory(recorder, device_index)
    if history.available():
        session.add(history)
    else:
        warn("the program records the allocator's history itself: device memory over time is blank")
    if nvml:
        _add_nvml(session, device_index, warn)


def watch_emulated(session: Session, device: EmulatedDevice, module: ModuleType, activity: str) -> None:
    """Collect from the emulated device; `activity` is ``none`` to leave its record out."""
    source = EmulatedActivity(session.recorder, device)
    session.watch_device(module, source.sample_memory)
    if activity != "none":
        session.add(source)


def _add_nvml(session: Session, device_index: int, warn: Warn) -> None:
    try:
        from pynvml import NVMLError

        from tracekit.capture.nvml import NvmlSampler
    except ImportError as error:
        warn(f"no NVML counters: {error}")
        return
    uuid = f"GPU-{torch.cuda.get_device_properties(device_index).uuid}"
    try:
        session.add(NvmlSampler(session.recorder, uuid, device_index, warn))
    except NVMLError as error:
        warn(f"no NVML counters: {error}")
