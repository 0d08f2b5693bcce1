"""Record the profiled code's own calls to the allocator and its own waits for the device."""

from __future__ import annotations

from typing import Any

import torch

from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Recorder
from tracekit.model import SpanKind


def install_runtime(patches: Patches, recorder: Recorder, device_module: Any) -> None:
    """Patch ``empty_cache`` and ``synchronize`` of torch's module for the device (``torch.cuda``), and stream waits."""
    _around(patches, recorder, device_module, "empty_cache", SpanKind.EMPTY_CACHE)
    _around(patches, recorder, device_module, "synchronize", SpanKind.SYNCHRONIZE)
    if device_module is torch.cuda:
        _around(patches, recorder, torch.cuda.Stream, "synchronize", SpanKind.SYNCHRONIZE)
        _around(patches, recorder, torch.cuda.Event, "synchronize", SpanKind.SYNCHRONIZE)


def _around(patches: Patches, recorder: Recorder, owner: Any, name: str, kind: SpanKind) -> None:
    title = recorder.intern(f"{owner.__name__}.{name}")
    kind_id, hooks = recorder.kind_id(kind), recorder.hooks
    patches.wrap(owner, name, lambda original: hooks.timed(original, kind_id, title, recorder.empty))
