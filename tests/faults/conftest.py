"""Profiles that fail, each in the process of the test or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracekit import api
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., api.Run]:
    """Profile flux-tiny on the emulated device; returns the run that was recorded, however it ended."""

    def run(
        expected: type[BaseException] | None = None, *, mode: str = "sequential", steps: int = 3, **extra: Any
    ) -> api.Run:
        recorded: list[api.Run] = []
        options = {"calibration": False, "trace": False, **extra}
        number = len(list(tmp_path.iterdir()))
        arguments: dict[str, Any] = {
            "offload": OffloadOptions(mode=mode),
            "call": CallOptions(steps=steps, height=32, width=32),
            "capture": api.CaptureOptions(output=tmp_path / f"run{number}", device="emulated", **options),
            "on_recorded": recorded.append,
        }
        if expected is None:
            api.profile_pipeline("synthetic:flux-tiny", **arguments)
        else:
            with pytest.raises(expected):
                api.profile_pipeline("synthetic:flux-tiny", **arguments)
        return recorded[0]

    return run
