"""Real runs of a tiny pipeline on the emulated device, one a mode, made once."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tracekit.analysis.prediction.predictor import Predictor
from tracekit.api import CaptureOptions, Run, profile_pipeline
from tracekit.device.emulated import load
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions

STEPS = 3


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[OffloadOptions], Run]:
    """Profile flux-tiny under a mode; the same mode is profiled once."""
    folder: Path = tmp_path_factory.mktemp("prediction")
    made: dict[Any, Run] = {}

    def run(offload: OffloadOptions) -> Run:
        if offload not in made:
            # The pipeline before is in reference cycles: its weights would count for this one's memory.
            gc.collect()
            load()
            torch.get_device_module("emulated").reset_peak_memory_stats()
            made[offload] = profile_pipeline(
                "synthetic:flux-tiny",
                offload=offload,
                call=CallOptions(steps=STEPS, height=32, width=32, seed=0),
                capture=CaptureOptions(
                    output=folder / f"run{len(made)}", device="emulated", trace=False, calibration=not made
                ),
            )
        return made[offload]

    return run


@pytest.fixture(scope="session")
def sequential(real_run: Callable[[OffloadOptions], Run]) -> Run:
    return real_run(OffloadOptions(mode="sequential"))


@pytest.fixture(scope="session")
def predictor(sequential: Run) -> Predictor:
    return Predictor(sequential.timeline)
