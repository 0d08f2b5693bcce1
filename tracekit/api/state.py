"""Bring about the state in which the first run begins, and write into the manifest what was read back of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from tracekit.api.recording import Recording
from tracekit.model import Allocator, Conditions


@contextmanager
def establish_state(recording: Recording, pipeline: Any, wanted: Conditions, device: str) -> Iterator[None]:
    """Set the weights' page state up now, and keep the allocator as asked for inside the block.

    A state that could not be brought about is a warning; the manifest's conditions then say that it was not.
    """
    from tracekit.capture.pagecache import establish
    from tracekit.offload.weights import components

    state = wanted.page_cache
    # An experiment's condition, which no run without tracekit pays for.
    with recording.recorder.own_work(f"weights' pages: {state}"):
        found = establish(components(pipeline).values(), state)
    recording.manifest.conditions = msgspec.structs.replace(found, allocator=wanted.allocator, kernels=wanted.kernels)
    if not found.established:
        recording.manifest.warnings.append(f"the page state asked for ({state}) is not established: {found.reason}")
    with ExitStack() as stack:
        if wanted.allocator == Allocator.NO_CLEARING:
            from tracekit.capture.emptycache import no_clearing

            stack.enter_context(no_clearing(device))
        yield
