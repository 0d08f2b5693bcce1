"""Tiny real pipelines, one call of them, and a recorder of set-up spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiffusionPipeline

from tracekit.workload.pipeline import CallOptions, build_call, load_pipeline

STEPS = 2
NAMES = ("flux-tiny", "sdxl-tiny", "sd3-tiny", "wan-tiny")


@dataclass
class SetupRecorder:
    """A `SetupSpans` that keeps the spans' names and the copies that the device counted inside them."""

    device: Any = None
    names: list[str] = field(default_factory=list)
    h2d_count: int = 0
    d2h_count: int = 0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.names.append(name)
        before = self.device.counters() if self.device else None
        try:
            yield
        finally:
            if before:
                after = self.device.counters()
                self.h2d_count += after.h2d_count - before.h2d_count
                self.d2h_count += after.d2h_count - before.d2h_count


def make(name: str) -> DiffusionPipeline:
    pipeline = load_pipeline(f"synthetic:{name}", None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline: DiffusionPipeline, steps: int = STEPS, **extra: Any) -> torch.Tensor:
    """One run, decoded; the pictures as a tensor on the CPU."""
    options = CallOptions(steps=steps, height=32, width=32, seed=0)
    arguments = build_call(pipeline, None, options) | {"output_type": "pt"} | extra
    with torch.no_grad():
        return pipeline(**arguments)[0].to("cpu")
