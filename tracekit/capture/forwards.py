"""Record a span for every forward of a registered module.

``nn.Module.__call__`` is patched once, on the class: no module's ``__dict__`` changes, modules that get or lose hooks
while they are profiled stay covered, and torch's fast path for modules without hooks stays open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tracekit.capture.patches import Patches
from tracekit.capture.recorder import Frame, Recorder
from tracekit.capture.registry import ModuleRegistry
from tracekit.model import NONE, SpanKind

GRAPH = "graph-captured region"


def install_forwards(patches: Patches, recorder: Recorder, registry: ModuleRegistry) -> None:
    """Patch module calls, and the replay of CUDA graphs."""
    patches.wrap(nn.Module, "__call__", lambda original: _module_call(original, recorder, registry))
    patches.wrap(torch.cuda.CUDAGraph, "replay", lambda original: _replay(original, recorder))


def _module_call(original: Callable[..., Any], recorder: Recorder, registry: ModuleRegistry) -> Callable[..., Any]:
    # Everything the hot path needs is bound here: a forward costs one Frame, two clock reads and one packed row.
    entries, local, clock = registry.entries, recorder.local, recorder.clock
    next_span, pack, extend = recorder.next_span, recorder.pack_span, recorder.extend_spans
    kind = recorder.kind_id(SpanKind.FORWARD)
    is_compiling = torch.compiler.is_dynamo_compiling

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        # A compiler that traces a model must see the original alone.
        if is_compiling():
            return original(module, *args, **kwargs)
        entry = entries.get(id(module))
        if entry is None:
            return original(module, *args, **kwargs)
        name, fqn, note, component = entry
        thread = local.thread
        below, parent_id = thread.top, NONE
        if below is None:
            recorder.component = component
        else:
            below.pristine = False
            below.end_ns = 0
            parent_id = below.span_id
            if below.parent_id == NONE:
                recorder.component = component
        thread.top = frame = Frame(next_span(), below, parent_id, True, fqn)
        frame.start_ns = clock()
        try:
            return original(module, *args, **kwargs)
        finally:
            end_ns = frame.end_ns or clock()
            thread.top = below  # also drops what an exception left open above
            extend(
                pack(
                    frame.span_id,
                    parent_id,
                    kind,
                    name,
                    fqn,
                    note,
                    thread.run_index,
                    thread.thread_id,
                    frame.start_ns,
                    end_ns,
                )
            )

    return call


def _replay(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    def replay(graph: Any) -> Any:
        with recorder.span(SpanKind.FORWARD, "CUDAGraph.replay", note=GRAPH):
            return original(graph)

    return replay
