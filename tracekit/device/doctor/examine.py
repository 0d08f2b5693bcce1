"""Run every check, in display order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_cache_path

from tracekit.device.doctor import cgroups, gpu, host, pagecache, software, storage
from tracekit.model.machinecheck import Level, MachineCheck

_CAN_PROFILE = (gpu.CUDA, software.EMULATED)


def examine(cache: Path | None = None) -> list[MachineCheck]:
    """All findings, in display order. `cache` is the folder with the built-in pipelines, by default the user's.

    CUDA and CUPTI are started for their checks; nothing of the machine's settings is changed.
    """
    folder = cache if cache is not None else user_cache_path("tracekit")
    return [
        *gpu.check_gpu(),
        host.check_page_locked(),
        software.check_emulated(),
        pagecache.check_residency(folder),
        pagecache.check_cachestat(),
        host.check_process_io(),
        host.check_io_pressure(),
        cgroups.check_memory_limit(),
        host.check_swap(),
        storage.check_cache(folder),
        *software.check_versions(),
    ]


def can_profile(findings: Iterable[MachineCheck]) -> bool:
    """Whether there is any device to profile on: a GPU that torch sees, or the emulated one."""
    return any(finding.check in _CAN_PROFILE and finding.level is not Level.MISSING for finding in findings)
