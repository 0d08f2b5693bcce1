"""Profile a pipeline that tracekit loads, offloads and calls itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any

from tracekit.api.options import CaptureOptions
from tracekit.api.recording import OnProgress, OnRecorded, Recording
from tracekit.api.run import Run
from tracekit.api.state import establish_state
from tracekit.model import NONE, Conditions, Kernels, Progress
from tracekit.units import format_bytes

if TYPE_CHECKING:
    from tracekit.offload.options import OffloadOptions
    from tracekit.workload.call import CallOptions


def profile_pipeline(
    name: str,
    *,
    offload: OffloadOptions,
    call: CallOptions,
    dtype: str | None = None,
    runs: int = 1,
    capture: CaptureOptions,
    conditions: Conditions | None = None,
    on_progress: OnProgress | None = None,
    on_recorded: OnRecorded | None = None,
) -> Run:
    """Load `name` (a hub id, a folder, ``synthetic:NAME``), apply the offload mode, call the pipeline `runs` times.

    `conditions` say in which state the first run begins; one that cannot be established is a warning and stands in the
    manifest, and the pipeline runs all the same. `on_recorded` gets the run when its folder is closed, however the
    pipeline ended.

    Raises:
        UsageError: something asked for cannot be; no folder is left behind.
        MissingError: there is no such device, or no compiler for the emulated one.
    """
    from tracekit.workload.quiet import import_libraries, no_step_bar

    import_libraries()
    from tracekit.device.choice import prepare_device, resolve_device
    from tracekit.offload.apply import apply_offload
    from tracekit.offload.fits import check_fits
    from tracekit.offload.options import check_options
    from tracekit.workload.call import build_call
    from tracekit.workload.classes import import_classes
    from tracekit.workload.pipeline import find_folder, load_pipeline
    from tracekit.workload.rehearsal import rehearse

    conditions = conditions or Conditions()
    device = resolve_device(capture.device)
    check_options(offload, device.torch_device, capture.vram_bytes)
    recording = Recording(capture, name, offload.manifest(), on_progress, on_recorded)
    folder = find_folder(name, _build_progress(name, on_progress))
    prepare_device(device, capture.vram_bytes, capture.link_gbps)
    # Not in the set-up: a process forked from one that has the libraries must take as long for it as one started anew.
    import_classes(folder)

    def prepare(pipeline: Any) -> None:
        check_fits(pipeline, offload, capture.vram_bytes)
        apply_offload(pipeline, offload, device.torch_device, lambda _: nullcontext())

    with recording, ExitStack() as stack:
        if conditions.kernels == Kernels.USED:
            # Before anything is recorded, device records included.
            _tell(on_progress, "use kernels and libraries")
            rehearse(folder, dtype, call, device.torch_device, prepare)
        recording.use_device(device, sorted(folder.rglob("*.safetensors")))
        session = recording.session
        session.on_first_run = recording.note_pipeline
        with session.setup("load"):
            pipeline = load_pipeline(str(folder), dtype)
        check_fits(pipeline, offload, capture.vram_bytes)
        arguments = build_call(pipeline, folder, call, device.torch_device)
        recording.manifest.call = {
            key: value for key, value in arguments.items() if isinstance(value, str | int | float | bool | None)
        }
        session.register(pipeline)
        session.watch(pipeline)
        apply_offload(pipeline, offload, device.torch_device, session.setup)
        stack.enter_context(establish_state(recording, pipeline, conditions, device.torch_device))
        with no_step_bar(pipeline):
            for _ in range(runs):
                pipeline(**build_call(pipeline, folder, call, device.torch_device))
    return recording.run


def _build_progress(name: str, on_progress: OnProgress | None) -> Callable[[int, int], None] | None:
    """Show how far a built-in pipeline is that has to be written first."""
    if on_progress is None:
        return None

    def written(done_bytes: int, total_bytes: int) -> None:
        _tell(on_progress, f"write {name}, {format_bytes(done_bytes)} of {format_bytes(total_bytes)}")

    return written


def _tell(on_progress: OnProgress | None, phase: str) -> None:
    if on_progress is not None:
        on_progress(Progress(NONE, phase, 0, 0))
