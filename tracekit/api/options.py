"""How to capture: where the run folder goes, on which device, what is recorded beside spans and copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ACTIVITIES = ("auto", "cupti", "cuda-events", "none")


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """Options of a capture.

    Attributes:
        output: The run folder to make; None makes ``runs/<pipeline>_<mode>_<date-time>``.
        force: Replace a run folder that is there.
        device: ``auto``, ``cuda``, ``cuda:N`` or ``emulated``.
        vram_bytes: Cap of the device's memory for this process.
        link_gbps: Throttle of the emulated device's link, decimal GB/s.
        python_frames: Record Python calls through VizTracer.
        activity: Where device records come from, one of `ACTIVITIES`.
        nvml: Sample NVML's counters.
        calibration: Measure briefly what link, memory and disk can do, before anything is profiled.
        trace: Write the Chrome trace at the end.
    """

    output: Path | None = None
    force: bool = False
    device: str = "auto"
    vram_bytes: int | None = None
    link_gbps: float | None = None
    python_frames: bool = False
    activity: str = "auto"
    nvml: bool = True
    calibration: bool = True
    trace: bool = True
