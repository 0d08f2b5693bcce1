"""What runs inside the profiled code: the interface of the compiled and the Python hooks, and the choice of one."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, Protocol

from tracekit.capture import native, purehooks
from tracekit.capture.garbage import Collection
from tracekit.capture.threadstate import ThreadLocal
from tracekit.errors import TracekitError, UsageError
from tracekit.model import SPANS, Sink, SpanKind

VARIABLE = "TRACEKIT_RECORDER"
"""The environment variable that asks for ``compiled`` or ``python`` hooks; without it, compiled where they can be."""

Wrapped = Callable[..., Any]
Crossing = Literal["to", "from_host", "to_host", "copy_", "setitem"]
"""How to tell whether a Tensor method's call crosses between host and device: see `tracekit.capture.crossing`."""


class Hooks(Protocol):
    """Open spans, and the callables that stand in for the profiled libraries' own.

    Strings are interned ids. `entries` is `ModuleRegistry.entries`. What a callable is given it passes on, what the
    original returns or raises it returns or raises.
    """

    component: str
    h2d_bytes: int
    sample_memory: Callable[[], None] | None
    collections: list[Collection]
    """Garbage collections of `tracekit.capture.garbage.MIN_NS` and more that are no rows yet."""

    def collecting(self, phase: str, info: dict[str, Any], /) -> None:
        """Be one of `gc.callbacks`: note each long collection in `collections`."""

    def usage(self) -> tuple[int, int, int]:
        """Blocks of 512 bytes that the process has read from disk, its major and its minor faults (getrusage(2)).

        Python's own `resource.getrusage` takes 10 us more on cold caches.
        """

    def next_span(self) -> int:
        """A new span's id."""

    def open(self, fqn: int, /) -> Any:
        """Open a span on this thread; `close` takes what this returns."""

    def close(self, opened: Any, kind: int, name: int, note: int, /) -> None:
        """Close it, with whatever an exception left open above it, and write its row."""

    def open_move(self, fqn: int, offload: bool, /) -> Any:
        """Open an onload's or offload's span; `close_move` takes what this returns.

        Where it is a module's own (its hook runs inside its call, before its work or after it), the span lies beside
        the forward's and the forward shrinks, so that a forward's duration is its own.
        """

    def close_move(self, opened: Any, kind: int, name: int, /) -> None:
        """Close it, move the forward's start or end to it, and call `sample_memory`."""

    def next_copy(self) -> int:
        """A new copy's id."""

    def events_so_far(self) -> int:
        """How many spans and copies there have been."""

    def forget_modules(self) -> None:
        """The entries given to `forward` have changed: what was found there before does not count."""

    def forward(self, original: Wrapped, entries: MutableMapping[int, Any], /) -> Wrapped:
        """Stand in for ``nn.Module.__call__``: a forward span for every registered module."""

    def timed(self, original: Wrapped, kind: int, name: int, note: int, /) -> Wrapped:
        """Stand in for anything: a span around each call."""

    def move(
        self, original: Wrapped, entries: MutableMapping[int, Any], kind: int, name: int, offload: bool, /
    ) -> Wrapped:
        """Stand in for accelerate's ``pre_forward`` or ``post_forward``: a span where the hook offloads."""

    def labelled(
        self, original: Wrapped, entries: MutableMapping[int, Any], intern: Callable[[str], int], /
    ) -> Wrapped:
        """Stand in for ``f(module, tensor_name, ...)``: copies inside are labelled with that weight."""

    def copies(
        self, owner: Any, buffer: Any, to_device: int, to_host: int, empty: int, min_probed_bytes: int, /
    ) -> Any:
        """What `crossing` needs of a CopyRecorder; its attribute `in_python` tells to record every crossing there."""

    def crossing(
        self, original: Wrapped, test: Crossing, operation: int, record: Callable[..., Any], copies: Any, /
    ) -> Wrapped:
        """Stand in for a Tensor method: ``record(tensor, args, kwargs)`` makes the call where it crosses."""


def make_hooks(sink: Sink, threads: dict[int, int], default_run: list[int]) -> tuple[Hooks, ThreadLocal, str]:
    """The hooks, the threads' state that they work on, and why they are not the compiled ones ("" if they are).

    Raises:
        UsageError: `VARIABLE` asks for something else.
        TracekitError: it asks for the compiled hooks, and they cannot be had.
    """
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "compiled", "python"):
        raise UsageError(f"{VARIABLE} is {wish!r}: set it to compiled or python, or not at all")
    forward, empty = sink.intern(SpanKind.FORWARD.value), sink.intern("")
    if wish != "python":
        try:
            compiled = native.load()
        except (TracekitError, OSError, ImportError) as error:
            if wish:
                raise
            reason = f"the hooks run in Python and cost several times more: {error}"
        else:
            local = ThreadLocal(compiled.Thread, threads, default_run)
            return compiled.Hooks(local, sink.buffer(SPANS), forward, empty), local, ""
    else:
        reason = f"the hooks run in Python and cost several times more: {VARIABLE} asks for it"
    local = ThreadLocal(purehooks.Thread, threads, default_run)
    return purehooks.PythonHooks(local, sink.raw(SPANS), forward, empty), local, reason
