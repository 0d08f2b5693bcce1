"""Profile the user's own script, unchanged, whatever offloading it sets up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tracekit.api.options import CaptureOptions
from tracekit.api.recording import OnProgress, OnRecorded, Recording
from tracekit.api.run import Run
from tracekit.model import OffloadInfo


def profile_script(
    target: str,
    args: Sequence[str],
    *,
    as_module: bool,
    capture: CaptureOptions,
    on_progress: OnProgress | None = None,
    on_recorded: OnRecorded | None = None,
) -> Run:
    """Run a script (or with `as_module` a module) as plain ``python`` does; every pipeline call in it is a run.

    Nothing that the script may want to import first is imported before it: the patches go on when torch is imported,
    and the device is looked at when a pipeline is called first. `on_recorded` gets the run when its folder is closed,
    however the script ended.

    Raises:
        UsageError: there is no such script or module; no folder is left behind.
        BaseException: whatever the script raises, SystemExit included, unchanged, after the folder was closed.
    """
    from tracekit.workload.importhook import when_imported
    from tracekit.workload.script import run_module, run_script

    name = target if as_module else Path(target).stem
    recording = Recording(capture, name, OffloadInfo(mode="script"), on_progress, on_recorded)
    with recording:
        awaited = when_imported("torch", lambda _: _torch_imported(recording))
        try:
            (run_module if as_module else run_script)(target, list(args))
        finally:
            awaited.remove()
    return recording.run


def _torch_imported(recording: Recording) -> None:
    """Patch torch, and make the emulated device known before the script asks, where it is the device that is meant."""
    from tracekit.device.choice import prepare_device, resolve_device
    from tracekit.device.presence import has_nvidia_driver

    session = recording.session
    options = recording.options
    # Whether there is a usable GPU is asked at the first run, since asking makes CUDA read CUDA_VISIBLE_DEVICES.
    if options.device == "emulated" or (options.device == "auto" and not has_nvidia_driver()):
        prepare_device(resolve_device("emulated"), options.vram_bytes, options.link_gbps)
    session.on_first_run = lambda: _first_run(recording)


def _first_run(recording: Recording) -> None:
    from tracekit.device.choice import prepare_device, resolve_device

    options = recording.options
    device = resolve_device(options.device)
    prepare_device(device, options.vram_bytes, options.link_gbps)
    recording.use_device(device)
    recording.note_pipeline()
