"""Record a span for every forward of a registered module.

``nn.Module.__call__`` is patched once, on the class: no module's ``__dict__`` changes, modules that get or lose hooks
while they are profiled stay covered, and torch's fast path for modules without hooks stays open.
"""

from __future__ import annotations

import torch
from torch import nn

from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import SpanKind

GRAPH = "graph-captured region"


def install_forwards(patches: Patches, recorder: Recorder, registry: ModuleRegistry) -> None:
    """Patch module calls, and the replay of CUDA graphs."""
    hooks, intern = recorder.hooks, recorder.intern
    replay = recorder.kind_id(SpanKind.FORWARD), intern("CUDAGraph.replay"), intern(GRAPH)
    registry.entries.changed = hooks.forget_modules
    patches.wrap(nn.Module, "__call__", lambda original: hooks.forward(original, registry.entries))
    patches.wrap(torch.cuda.CUDAGraph, "replay", lambda original: hooks.timed(original, *replay))
