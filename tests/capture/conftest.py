"""Sessions over real tiny pipelines on the emulated device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tracekit.capture.hooks import VARIABLE
from tracekit.capture.recorder import Recorder
from tracekit.capture.session import Session
from tracekit.capture.sources import watch_emulated
from tracekit.device.emulated import EmulatedDevice, load
from tracekit.model import ClockInfo, DeviceInfo, Manifest, OffloadInfo, RunData
from tracekit.runfolder import RunWriter, read_run
from tracekit.workload.importhook import when_imported
from tracekit.workload.pipeline import CallOptions, build_call, find_folder, load_pipeline

DEVICE = "emulated:0"


def blank_manifest() -> Manifest:
    return Manifest(
        tracekit_version="test",
        created="",
        workload="test",
        offload=OffloadInfo(mode="test"),
        device=DeviceInfo(kind="emulated", name="emulated", torch_device=DEVICE),
        clock=ClockInfo(monotonic_ns=time.monotonic_ns(), epoch_ns=time.time_ns()),
    )


class Recorded:
    """A session over a run folder; `data` is what it wrote, once it was stopped."""

    def __init__(self, path: Path, device: EmulatedDevice | None) -> None:
        self.path = path
        self.writer = RunWriter.create(path, blank_manifest())
        self.recorder = Recorder(self.writer)
        self.session = Session(self.recorder, when_imported)
        self.session.start()
        if device is not None:
            watch_emulated(self.session, device, torch.get_device_module("emulated"), "auto")
        self._data: RunData | None = None

    def stop(self) -> None:
        self.session.stop()
        manifest = blank_manifest()
        manifest.activity = self.session.activity.name
        manifest.clock.alignment_error_ns = self.session.activity.alignment_error_ns
        manifest.pipeline_class = self.session.seen.pipeline_class
        manifest.components = self.session.seen.components
        self.writer.finish(manifest)

    @property
    def data(self) -> RunData:
        if self._data is None:
            self._data = read_run(self.path)
        return self._data


@pytest.fixture(params=["compiled", "python"])
def hooks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of hooks in turn: what is recorded must not depend on them."""
    monkeypatch.setenv(VARIABLE, request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def emulated() -> EmulatedDevice:
    return load()


@pytest.fixture
def recording(tmp_path: Path, request: pytest.FixtureRequest, hooks: str) -> Callable[[], Any]:
    """A context manager that records its block: ``with recording() as recorded``.

    Without a device the emulated one is not loaded: torch takes one accelerator a process for page-locked memory.
    """
    number = iter(range(100))

    @contextmanager
    def record(*, with_device: bool = True) -> Iterator[Recorded]:
        recorded = Recorded(
            tmp_path / f"run{next(number)}", request.getfixturevalue("emulated") if with_device else None
        )
        try:
            yield recorded
        finally:
            recorded.stop()

    return record


def make(name: str = "flux-tiny") -> Any:
    pipeline = load_pipeline(f"synthetic:{name}", None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline: Any, name: str = "flux-tiny", steps: int = 2, **extra: Any) -> torch.Tensor:
    """One small run; its pictures as a tensor on the CPU."""
    options = CallOptions(steps=steps, height=32, width=32, seed=0)
    arguments = build_call(pipeline, find_folder(f"synthetic:{name}"), options, DEVICE)
    with torch.no_grad():
        result = pipeline(**(arguments | {"output_type": "pt"} | extra))[0]
    return torch.as_tensor(result).cpu()
