"""Profile what runs inside a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tracekit.api.options import CaptureOptions
from tracekit.api.recording import Recording
from tracekit.api.run import Run
from tracekit.errors import UsageError
from tracekit.model import OffloadInfo


@contextmanager
def profile(
    target: Any,
    output: str | Path | None = None,
    *,
    name: str | None = None,
    force: bool = False,
    device: str | None = None,
    python_frames: bool = False,
    activity: str = "auto",
    nvml: bool = True,
    calibration: bool = True,
    trace: bool = True,
) -> Iterator[Run]:
    """Record what a pipeline or a module does inside the block.

        with tracekit.profile(pipe, output="runs/mine") as run:
            pipe("a cat")
        print(run.summary().verdict)

    `target` is a diffusers pipeline, each call of which is a run; or any ``nn.Module``, then the block is one run and
    each outermost call of the module a step. The target keeps whatever offloading it has; its weights' copies are
    recorded as they happen. The run can be read when the block is over.

    Args:
        target: a DiffusionPipeline or a torch.nn.Module.
        output: the run folder to make; by default ``runs/<class>_script_<date-time>``.
        name: what a bare module is called, the first part of its FQNs; by default its class.
        force: replace a run folder that is there.
        device: ``cuda``, ``cuda:N`` or ``emulated``; by default CUDA where there is one, else the emulated device if
            this process has loaded it, else none.
        python_frames: record Python calls through VizTracer.
        activity: where device records come from: auto, cupti, cuda-events or none.
        nvml: sample NVML's counters.
        calibration: measure briefly what link, memory and disk can do, so that copies are given as a share of it.
        trace: write the Chrome trace when the block is over.

    Raises:
        UsageError: the target is neither, or the folder cannot be made.
    """
    from tracekit.capture.session import is_module as is_bare_module

    is_module = is_bare_module(target)
    if not is_module and not hasattr(target, "components"):
        raise UsageError(f"cannot profile a {type(target).__name__}: give a diffusers pipeline or a torch.nn.Module")
    options = CaptureOptions(
        output=None if output is None else Path(output),
        force=force,
        device=device or "",
        python_frames=python_frames,
        activity=activity,
        nvml=nvml,
        calibration=calibration,
        trace=trace,
    )
    recording = Recording(options, type(target).__name__, OffloadInfo(mode="script"))
    with recording, ExitStack() as stack:
        _use_device(recording)
        session = recording.session
        session.on_first_run = recording.note_pipeline
        if is_module:
            stack.enter_context(session.bare_run(target, name or type(target).__name__))
            recording.note_pipeline()
        else:
            session.register(target)
            session.watch(target)
        yield recording.run


def _use_device(recording: Recording) -> None:
    from tracekit.device.choice import resolve_device
    from tracekit.device.presence import device_in_use

    wanted = recording.options.device
    choice = resolve_device(wanted) if wanted else device_in_use()
    if choice is not None:
        recording.use_device(choice)
