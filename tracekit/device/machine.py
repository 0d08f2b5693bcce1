"""Describe the host for the manifest. Imports no torch: a profiled script is the first to do that."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from tracekit.model import MachineInfo


def describe_machine() -> MachineInfo:
    """The host's CPU model, the cores this process may use, its memory in bytes, kernel and Python."""
    return MachineInfo(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        ram_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        python=platform.python_version(),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    # Arm kernels name no model.
    return platform.machine()
