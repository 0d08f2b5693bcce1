"""Record the profiled code's own calls to the allocator and its own waits for the device."""

from __future__ import annotations

from collections.abc import Callable
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
    kind_id, clock = recorder.kind_id(kind), recorder.clock

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(*args, **kwargs)
            frame = recorder.push(recorder.empty)
            frame.start_ns = clock()
            try:
                return original(*args, **kwargs)
            finally:
                recorder.pop(frame, kind_id, title, recorder.empty, clock())

        return call

    patches.wrap(owner, name, make)
