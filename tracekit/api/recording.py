"""A profile in progress: it owns the run folder, the session and the device, and ends in a `Run`."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import tracekit
from tracekit.api.options import CaptureOptions
from tracekit.api.run import Run
from tracekit.errors import TracekitError
from tracekit.model import ClockInfo, DeviceInfo, Manifest, OffloadInfo, Progress
from tracekit.runfolder import RunWriter, default_run_path

if TYPE_CHECKING:
    from tracekit.capture.recorder import Recorder
    from tracekit.capture.session import Session
    from tracekit.device.choice import DeviceChoice

OnProgress = Callable[[Progress], None]
OnRecorded = Callable[[Run], None]
TICK_S = 0.25
MAX_REASON = 600
"""Characters kept of what ended a run: all that torch says of an allocation that failed, and no more of a novel."""
_VERSIONS = ("torch", "diffusers", "accelerate", "transformers", "safetensors", "viztracer", "numpy")


class Recording:
    """A context in which everything is recorded; afterwards `run` is what was.

    A failure of the profiled code passes through: what was captured until then is kept and marked incomplete. A
    failure that is tracekit's own to report (bad input) before anything ran leaves no folder behind. `on_recorded` gets
    the run when its folder is closed, however the profiled code ended.
    """

    def __init__(
        self,
        options: CaptureOptions,
        workload: str,
        offload: OffloadInfo,
        on_progress: OnProgress | None = None,
        on_recorded: OnRecorded | None = None,
    ) -> None:
        self.options = options
        self.manifest = Manifest(
            tracekit_version=tracekit.__version__,
            created=datetime.now().astimezone().isoformat(timespec="seconds"),
            command=list(sys.orig_argv),
            workload=workload,
            offload=offload,
            device=DeviceInfo(kind="", name="", torch_device=""),
            clock=ClockInfo(monotonic_ns=time.monotonic_ns(), epoch_ns=time.time_ns()),
            process_id=os.getpid(),
        )
        self._on_progress = on_progress
        self._on_recorded = on_recorded
        path = options.output or default_run_path(Path(), workload, offload.mode, datetime.now())
        self.run = Run(path)
        self._writer: RunWriter | None = None
        self._recorder: Recorder | None = None
        self._session: Session | None = None
        self._ticker = _Ticker(self._tick)
        self.ran = False

    def __enter__(self) -> Recording:
        self._writer = RunWriter.create(self.run.path, self.manifest, force=self.options.force)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ticker.stop()
        if self._session is not None:
            self._session.stop()
        if self._writer is None:
            return
        if isinstance(error, TracekitError) and not self.ran:
            self._writer.discard()
            return
        # A script that ends itself in order ends its profile in order, too.
        if error is not None and not (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.manifest.incomplete_reason = f"{type(error).__name__}: {error}".splitlines()[0][:MAX_REASON]
        self._fill_manifest()
        self._writer.finish(self.manifest)
        if self.options.trace and (error is None or isinstance(error, SystemExit)):
            self.run.write_trace()
        if self._on_recorded is not None:
            self._on_recorded(self.run)

    @property
    def recorder(self) -> Recorder:
        """The recorder; made, and torch with it imported, at first use."""
        if self._recorder is None:
            from tracekit.capture.recorder import Recorder

            assert self._writer is not None
            self._recorder = Recorder(self._writer, on_progress=self._on_progress)
        return self._recorder

    @property
    def session(self) -> Session:
        """The session, started; torch is imported by now."""
        if self._session is None:
            from tracekit.capture.session import Session
            from tracekit.workload.importhook import when_imported

            self._session = Session(self.recorder, when_imported)
            self._session.start()
            if self._on_progress is not None:
                self._ticker.start()
        return self._session

    def use_device(self, choice: DeviceChoice, weight_files: Sequence[Path] | None = None) -> None:
        """Measure what machine and device can do, collect what the device tells, and describe it in the manifest.

        `weight_files` are read to measure the disk; by default those that the process has mapped.
        """
        from tracekit.capture.sources import watch_device
        from tracekit.device.describe import describe_device
        from tracekit.device.machine import describe_machine

        self.manifest.device = describe_device(choice, self.options.vram_bytes)
        self.manifest.machine = describe_machine()
        if self.options.calibration:
            self._calibrate(choice, weight_files)
        watch_device(self.session, choice, self.options.activity, nvml=self.options.nvml, warn=self._warn)
        if self.options.python_frames:
            from tracekit.capture.frames import FrameRecorder

            self.session.add(FrameRecorder(self.recorder))
        self._save_manifest()

    def note_pipeline(self) -> None:
        """Put what the session saw into the folder now, so that a kill does not lose it."""
        self.ran = True
        self._save_manifest()

    def _calibrate(self, choice: DeviceChoice, weight_files: Sequence[Path] | None) -> None:
        from tracekit.capture.calibration import calibrate

        self.recorder.component = "calibrate"
        self.recorder.report_progress()
        # What it calls, accelerate's hooks among it, is not the profiled code's.
        if self._session is not None:
            self._session.pause()
        try:
            calibrate(self.recorder, choice, weight_files, self._warn)
        finally:
            if self._session is not None:
                self._session.resume()
        self.recorder.component = ""

    def _warn(self, message: str) -> None:
        if message not in self.manifest.warnings:
            self.manifest.warnings.append(message)

    def _save_manifest(self) -> None:
        self._fill_manifest()
        if self._writer is not None:
            self._writer.update_manifest(self.manifest)

    def _fill_manifest(self) -> None:
        manifest, session, recorder = self.manifest, self._session, self._recorder
        manifest.versions = {name: _version(name) for name in _VERSIONS if name in sys.modules}
        if session is None or recorder is None:
            return
        manifest.pipeline_class = session.seen.pipeline_class
        manifest.components = dict(session.seen.components)
        manifest.versions["recorder"] = recorder.name
        if recorder.slow_reason:
            self._warn(recorder.slow_reason)
        for warning in session.seen.warnings:
            self._warn(warning)
        manifest.activity = session.activity.name
        manifest.clock.alignment_error_ns = session.activity.alignment_error_ns
        manifest.counts = dict(session.activity.counts)
        manifest.overhead_ns = dict(recorder.overhead_ns)

    def _tick(self) -> None:
        if self._recorder is not None:
            self._recorder.report_progress()


class _Ticker:
    """Calls back every `TICK_S` seconds from a thread of its own, for the live display."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="tracekit-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(TICK_S):
            self._call()


@functools.cache
def _version(module: str) -> str:
    """A library's version; looking one up takes milliseconds, and the manifest is written several times."""
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        found: Any = getattr(sys.modules[module], "__version__", "")
        return str(found)
