"""Use kernels and libraries once before the profiled pipeline exists: a call of one step that nobody records."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tracekit.workload.call import CallOptions, build_call
from tracekit.workload.pipeline import load_pipeline
from tracekit.workload.quiet import no_step_bar


def rehearse(folder: Path, dtype: str | None, call: CallOptions, device: str, prepare: Callable[[Any], None]) -> None:
    """Load the pipeline, `prepare` it (which applies the offload mode), call it for one step, and let go of it.

    It is a pipeline of its own, so that no weight of the profiled one has been onloaded before, and no page of its
    files is in its page tables. What stays is what a process does once: libraries loaded, kernels compiled or loaded,
    plans made, the driver's staging buffers.
    """
    pipeline = load_pipeline(str(folder), dtype)
    prepare(pipeline)
    with no_step_bar(pipeline):
        pipeline(**build_call(pipeline, folder, dataclasses.replace(call, steps=1), device))
    del pipeline
    gc.collect()  # hooks and modules refer to each other
    module = torch.get_device_module(torch.device(device))
    module.empty_cache()
    module.reset_peak_memory_stats()
