"""Measure briefly what this machine can do, before anything is profiled: the link, page-locking, memory, the disk.

Each measurement is a row of the calibration table, raw; analysis makes ceilings of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tracekit.capture.calibration.disk import disk_samples
from tracekit.capture.calibration.grouphooks import group_hook_samples
from tracekit.capture.calibration.hostwork import host_work_samples
from tracekit.capture.calibration.link import link_samples, pinned_samples
from tracekit.capture.calibration.memory import memory_samples
from tracekit.capture.calibration.sample import Sample
from tracekit.capture.garbage import collector_off
from tracekit.capture.hostmemory import HostMemoryMap
from tracekit.capture.recorder import Recorder
from tracekit.device.choice import DeviceChoice
from tracekit.model import CALIBRATION

__all__ = ["calibrate"]

_WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf"})


def calibrate(
    recorder: Recorder, device: DeviceChoice, files: Sequence[Path] | None, warn: Callable[[str], None]
) -> None:
    """Write the calibration table, in a span of tracekit's own.

    That takes two seconds on the emulated device, and about four on a GPU. The device must be ready, and no
    device record be under way. Its memory is given back, and so is the host's; the page cache is left as it was, and so
    is Python's garbage collector. `files` are the weights' own files; None takes those that the process has mapped, and
    without any the disk is not measured. What cannot be measured here is a warning and leaves no rows.
    """
    parts: tuple[tuple[str, Callable[[], Iterator[Sample]]], ...] = (
        # First, while the thread is where the program left it: where one of torch's own threads is on the same core,
        # each copy waits for a tick or two.
        ("memory", memory_samples),
        ("the disk", lambda: disk_samples(_mapped_weight_files() if files is None else files)),
        ("the link", lambda: link_samples(device)),
        ("the host's work", lambda: host_work_samples(device)),
        ("diffusers' hooks", lambda: group_hook_samples(device)),
        ("the link", lambda: pinned_samples(device)),
    )
    with recorder.own_work("calibrate"), _unrecorded(recorder), collector_off():
        for what, samples in parts:
            try:
                for sample in samples():
                    recorder.sink.append(CALIBRATION, sample.measure.value, sample.size_bytes, sample.duration_ns)
            except (OSError, RuntimeError) as error:  # a full disk, a driver's refusal, no device memory left
                warn(f"{what} was not measured: {str(error).splitlines()[0]}")


def _mapped_weight_files() -> list[Path]:
    files = HostMemoryMap().files()
    # The hub's cache keeps files under their hashes, in folders called blobs.
    return [path for path in files if path.suffix in _WEIGHT_SUFFIXES or path.parent.name == "blobs"]


@contextmanager
def _unrecorded(recorder: Recorder) -> Iterator[None]:
    """These copies are not the profiled code's."""
    thread = recorder.local.thread
    thread.copying = True
    try:
        yield
    finally:
        thread.copying = False
