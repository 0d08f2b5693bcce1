"""Check what a GPU can tell: CUDA, CUPTI's records, NVML's counters, and the link's width and generation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tracekit.model.machinecheck import Level, MachineCheck

CUDA, CUPTI, NVML, LINK = "cuda", "cupti", "nvml", "link"
_LOAD_BYTES = 64 << 20
_LOADS = 20
_CUPTI_REMEDY = "end other profilers (nsys), or load the driver with NVreg_RestrictProfilingToAdminUsers=0"


def check_gpu() -> list[MachineCheck]:
    """CUDA, then what depends on it."""
    try:
        import torch
    except ImportError as error:
        found = f"torch cannot be imported: {error}".splitlines()[0]
        return [_missing(CUDA, found, "install torch, see the README"), *_without_gpu()]
    if not torch.cuda.is_available():
        return [_no_cuda(torch), *_without_gpu()]
    return [_cuda(torch), check_cupti(), *check_nvml(torch)]


def check_cupti() -> MachineCheck:
    """Whether CUPTI's record has a small copy and a kernel that a window of torch.profiler saw."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    try:
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            torch.ones(8).cuda().add_(1)
            torch.cuda.synchronize()
        recorded = {str(event.name) for event in profiler.events() if event.device_type.name == "CUDA"}
    except RuntimeError as error:
        return _missing(CUPTI, str(error).splitlines()[0], _CUPTI_REMEDY)
    copied = any(name.startswith("Memcpy") for name in recorded)
    if copied and len(recorded) > 1:
        return MachineCheck(check=CUPTI, level=Level.OK, found="records copies and kernels")
    return _missing(
        CUPTI,
        "its record is empty: copies are timed by CUDA events, kernels are not seen",
        _CUPTI_REMEDY,
    )


def check_nvml(torch: ModuleType) -> list[MachineCheck]:
    """NVML, and the link that it tells of while something is copied over it."""
    import pynvml

    try:
        with _nvml(pynvml):
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
            driver = pynvml.nvmlSystemGetDriverVersion()
            found = [MachineCheck(check=NVML, level=Level.OK, found=f"driver {driver}: power, clocks, PCIe throughput")]
            try:
                return [*found, link_finding(*_link_under_load(torch, pynvml, handle))]
            except pynvml.NVMLError as error:
                return [*found, _missing(LINK, f"NVML does not tell it: {error}", "nothing, on MIG or a virtual GPU")]
    except pynvml.NVMLError as error:
        remedy = "mount libnvidia-ml.so into the container (--gpus all), or pass nvml=False"
        return [_missing(NVML, str(error), remedy), _missing(LINK, "NVML would tell it", "see nvml")]


def link_finding(generation: int, width: int, max_generation: int, max_width: int) -> MachineCheck:
    """The link while it was busy, against what card and slot agree on at most."""
    found, best = f"PCIe {generation}.0 x{width}", f"PCIe {max_generation}.0 x{max_width}"
    if (generation, width) == (max_generation, max_width):
        return MachineCheck(check=LINK, level=Level.OK, found=f"{found}, its maximum")
    remedy = "reseat the card or use another slot; on a laptop or in a virtual machine it may be fixed"
    return MachineCheck(
        check=LINK, level=Level.LIMITED, found=f"{found} under load, below its maximum {best}", remedy=remedy
    )


def _link_under_load(torch: ModuleType, nvml: ModuleType, handle: Any) -> tuple[int, int, int, int]:
    """Generation and width while copies are under way: an idle link falls to a lower generation."""
    source = torch.empty(_LOAD_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(_LOAD_BYTES, dtype=torch.uint8, device="cuda")
    for _ in range(_LOADS):
        target.copy_(source, non_blocking=True)
    now = nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle), nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)
    torch.cuda.synchronize()
    return *now, nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle), nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)


@contextlib.contextmanager
def _nvml(nvml: ModuleType) -> Iterator[None]:
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _cuda(torch: ModuleType) -> MachineCheck:
    names = [torch.cuda.get_device_properties(index).name for index in range(torch.cuda.device_count())]
    return MachineCheck(check=CUDA, level=Level.OK, found=f"{', '.join(names)}; CUDA {torch.version.cuda}")


def _no_cuda(torch: ModuleType) -> MachineCheck:
    from tracekit.device.presence import has_nvidia_driver

    if torch.version.cuda is None:
        remedy = "install torch's CUDA build" if has_nvidia_driver() else "nothing, unless this machine has a GPU"
        return _missing(CUDA, f"torch {torch.__version__} is built without CUDA", remedy)
    remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES" if has_nvidia_driver() else "load NVIDIA's driver"
    return _missing(CUDA, "torch sees no GPU", remedy)


def _without_gpu() -> list[MachineCheck]:
    return [_missing(check, "needs a GPU", f"see {CUDA}") for check in (CUPTI, NVML, LINK)]


def _missing(check: str, found: str, remedy: str) -> MachineCheck:
    return MachineCheck(check=check, level=Level.MISSING, found=found, remedy=remedy)
