"""Watch Python's cyclic garbage collector, one full collection of which holds up everything for 0.1 s and more.

And keep it out of work of tracekit's own that makes many objects.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

MIN_NS = 1_000_000
"""A collection shorter than this is no span: those of the young generations are many, and short."""

Collection = tuple[Any, int, int, int, int, int]
"""generation, start_ns, end_ns, the span that was open on the thread (or `NONE`), run_index, thread_id.

A collection begins in any allocation, in the midst of the recorder's own work, too: so it is noted as this, and becomes
a row later (`Recorder.write_collections`).
"""


class GarbageWatch:
    """Keeps one callback among `gc.callbacks`, last when it is put there; the others stay as they are.

    It stays on while torch compiles, which makes much garbage: nothing of it can be traced.
    """

    def __init__(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        self._callback = callback
        self._paused = 0

    def install(self) -> None:
        """Begin to watch."""
        gc.callbacks.append(self._callback)

    def pause(self) -> None:
        """Stop for a while; pauses may nest."""
        self._paused += 1
        if self._paused == 1:
            self._take_off()

    def resume(self) -> None:
        """Undo one `pause`; without one, nothing happens."""
        if self._paused == 1:
            self.install()
        self._paused = max(self._paused - 1, 0)

    def remove(self) -> None:
        """Stop for good; it may be called twice."""
        self._paused = 0
        self._take_off()

    def _take_off(self) -> None:
        with contextlib.suppress(ValueError):  # paused, or somebody else emptied the list
            gc.callbacks.remove(self._callback)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep the collector off meanwhile, and have it look through what was made inside alone.

    It counts objects as they are made. In the end that brings on a full collection: of the program's objects, and at
    another time than the program's own objects would have. What was off before stays so, and nothing is collected.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)
        gc.enable()
