"""The hooks in Python, for where they cannot be compiled: the same rows as `tracekit.capture.native`, at more cost.

The hot path is one `Frame` on a linked per-thread stack and one packed row when it closes: no object survives an
event, so the garbage collector never sees the recording. Each factory binds what its callable needs.
"""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable, MutableMapping
from threading import get_native_id
from time import monotonic_ns as clock
from typing import Any

import torch
from torch import nn

from tracekit.capture import crossing
from tracekit.capture.garbage import MIN_NS, Collection
from tracekit.capture.threadstate import ThreadLocal
from tracekit.model import NONE

Wrapped = Callable[..., Any]


class Frame:
    """An open span. `start_ns` and `end_ns` of a forward are moved inward by its module's own onload and offload.

    `below` is what was open on the thread before it: frames are a linked stack, whose top the thread knows. `beside`
    is the forward whose own onload or offload this is.
    """

    __slots__ = (
        "below",
        "beside",
        "end_ns",
        "fqn",
        "is_forward",
        "offload",
        "parent_id",
        "pristine",
        "span_id",
        "start_ns",
    )

    def __init__(self, span_id: int, below: Frame | None, parent_id: int, is_forward: bool, fqn: int) -> None:
        self.span_id = span_id
        self.below = below
        self.parent_id = parent_id
        self.is_forward = is_forward
        self.fqn = fqn
        self.pristine = True  # no child has begun: what happens now comes before the module's own work
        self.beside: Frame | None = None
        self.offload = False
        self.start_ns = 0
        self.end_ns = 0


class Thread:
    """What is going on in one thread; see `ThreadState`."""

    __slots__ = ("copying", "group", "label", "run_index", "thread_id", "top")

    def __init__(self, run_index: int, thread_id: int) -> None:
        self.top: Frame | None = None
        self.run_index = run_index
        self.thread_id = thread_id
        self.copying = False
        self.label: tuple[int, int] | None = None
        self.group: Any = None

    @property
    def idle(self) -> bool:
        """No span is open."""
        return self.top is None

    @property
    def span_id(self) -> int:
        """The innermost open span, or `NONE`."""
        return NONE if self.top is None else self.top.span_id


class PythonHooks:
    """See `tracekit.capture.hooks.Hooks`."""

    def __init__(
        self, local: ThreadLocal, spans: tuple[Callable[..., bytes], Callable[[bytes], None]], forward: int, empty: int
    ) -> None:
        self.component = ""
        self.h2d_bytes = 0
        self.sample_memory: Callable[[], None] | None = None
        self._local = local
        self._pack, self._extend = spans
        self._forward, self._empty = forward, empty
        self.collections: list[Collection] = []
        self._collecting_ns = 0
        self.next_span: Callable[[], int] = itertools.count().__next__
        self._next_copy = itertools.count()
        self.next_copy: Callable[[], int] = self._next_copy.__next__

    def events_so_far(self) -> int:
        """About how many spans and copies there have been; each question counts as two."""
        return self.next_span() + self.next_copy()

    def usage(self) -> tuple[int, int, int]:
        """Blocks read from disk, major and minor faults of the process."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_inblock, usage.ru_majflt, usage.ru_minflt

    def collecting(self, phase: str, info: dict[str, Any]) -> None:
        """Be one of `gc.callbacks`."""
        end_ns, start_ns = clock(), self._collecting_ns
        if phase == "start":
            self._collecting_ns = clock()
            return
        self._collecting_ns = 0
        if start_ns and end_ns - start_ns >= MIN_NS:
            # None while the thread's state is being made.
            thread: Any = getattr(self._local, "thread", None)
            where = (NONE, NONE, get_native_id())
            if thread is not None:
                where = (thread.span_id, thread.run_index, thread.thread_id)
            self.collections.append((info.get("generation"), start_ns, end_ns, *where))

    def forget_modules(self) -> None:
        """Nothing is kept of the entries."""

    def open(self, fqn: int) -> Frame:
        """Open a span."""
        thread: Any = self._local.thread
        below, parent_id = thread.top, NONE
        if below is not None:
            below.pristine = False
            below.end_ns = 0
            parent_id = below.span_id
        thread.top = frame = Frame(self.next_span(), below, parent_id, False, fqn)
        frame.start_ns = clock()
        return frame

    def close(self, opened: Frame, kind: int, name: int, note: int) -> None:
        """Close a span and write its row."""
        self._write(opened, kind, name, note, clock())

    def open_move(self, fqn: int, offload: bool) -> Frame:
        """Open an onload's or offload's span, beside a forward whose own it is."""
        thread: Any = self._local.thread
        top = thread.top
        if top is None or not top.is_forward or not (offload or top.pristine):
            return self.open(fqn)
        thread.top = frame = Frame(self.next_span(), top, top.parent_id, False, fqn)
        frame.beside, frame.offload = top, offload
        frame.start_ns = clock()
        return frame

    def close_move(self, opened: Frame, kind: int, name: int) -> None:
        """Close it, and move the forward's start or end to it."""
        end_ns = clock()
        forward = opened.beside
        if forward is not None:
            if opened.offload:
                forward.end_ns = opened.start_ns
            else:
                forward.start_ns = end_ns
        self._write(opened, kind, name, self._empty, end_ns)
        if self.sample_memory is not None:
            self.sample_memory()

    def _write(self, frame: Frame, kind: int, name: int, note: int, end_ns: int) -> None:
        thread: Any = self._local.thread
        thread.top = frame.below
        run_index, thread_id = thread.run_index, thread.thread_id
        times = frame.start_ns, end_ns
        self._extend(
            self._pack(frame.span_id, frame.parent_id, kind, name, frame.fqn, note, run_index, thread_id, *times)
        )

    def forward(self, original: Wrapped, entries: MutableMapping[int, Any]) -> Wrapped:
        """Stand in for ``nn.Module.__call__``."""
        local, next_span, pack, extend, kind = self._local, self.next_span, self._pack, self._extend, self._forward
        # torch.compile takes this for the outermost frame of what it compiles.
        is_compiling = torch.compiler.is_dynamo_compiling

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return original(module, *args, **kwargs)
            entry = entries.get(id(module))
            if entry is None:
                return original(module, *args, **kwargs)
            name, fqn, note, component = entry
            thread: Any = local.thread
            below, parent_id = thread.top, NONE
            if below is None:
                self.component = component
            else:
                below.pristine = False
                below.end_ns = 0
                parent_id = below.span_id
                if below.parent_id == NONE:
                    self.component = component
            thread.top = frame = Frame(next_span(), below, parent_id, True, fqn)
            frame.start_ns = clock()
            try:
                return original(module, *args, **kwargs)
            finally:
                end_ns = frame.end_ns or clock()
                thread.top = below  # also drops what an exception left open above
                run_index, thread_id = thread.run_index, thread.thread_id
                times = frame.start_ns, end_ns
                extend(pack(frame.span_id, parent_id, kind, name, fqn, note, run_index, thread_id, *times))

        return call

    def timed(self, original: Wrapped, kind: int, name: int, note: int) -> Wrapped:
        """A span around each call."""
        open_, close, empty = self.open, self.close, self._empty

        def call(*args: Any, **kwargs: Any) -> Any:
            opened = open_(empty)
            try:
                return original(*args, **kwargs)
            finally:
                close(opened, kind, name, note)

        return call

    def move(
        self, original: Wrapped, entries: MutableMapping[int, Any], kind: int, name: int, offload: bool
    ) -> Wrapped:
        """Stand in for ``AlignDevicesHook.pre_forward`` or ``post_forward``."""
        open_, close, empty = self.open_move, self.close_move, self._empty

        def call(hook: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not hook.offload:
                return original(hook, module, *args, **kwargs)
            entry = entries.get(id(module))
            opened = open_(empty if entry is None else entry.fqn, offload)
            try:
                return original(hook, module, *args, **kwargs)
            finally:
                close(opened, kind, name)

        return call

    def labelled(self, original: Wrapped, entries: MutableMapping[int, Any], intern: Callable[[str], int]) -> Wrapped:
        """Stand in for ``set_module_tensor_to_device``."""
        local, empty = self._local, self._empty

        def call(module: nn.Module, tensor_name: str, *args: Any, **kwargs: Any) -> Any:
            thread = local.thread
            entry = entries.get(id(module))
            before, thread.label = thread.label, (empty if entry is None else entry.fqn, intern(tensor_name))
            try:
                return original(module, tensor_name, *args, **kwargs)
            finally:
                thread.label = before

        return call

    def copies(self, owner: Any, *_: Any) -> Any:
        """The CopyRecorder itself."""
        return owner

    def crossing(
        self,
        original: Wrapped,
        test: str,
        operation: int,  # noqa: ARG002
        record: Callable[..., Any],
        copies: Any,
    ) -> Wrapped:
        """Stand in for a Tensor method."""
        if test == "to":
            return self._to(original, record, copies)
        local, holders, crosses = self._local, copies.holders, crossing.PREDICATES[test]

        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not holders[type(tensor)] or local.thread.copying or not crosses(tensor, args, kwargs):
                return original(tensor, *args, **kwargs)
            return record(tensor, args, kwargs)

        return call

    def _to(self, original: Wrapped, record: Callable[..., Any], copies: Any) -> Wrapped:
        """``Tensor.to`` is called far more often than it copies, so that nothing is called to find out.

        Inside accelerate's hooks torch's frame evaluator is on, and every Python call costs about a microsecond.
        """
        local, sides, holders = self._local, copies.sides, copies.holders

        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            on_host = sides[args[0] if args else kwargs.get("device", kwargs.get("other"))]
            if on_host is None or not holders[type(tensor)] or on_host is tensor.is_cpu:
                return original(tensor, *args, **kwargs)
            if local.thread.copying or tensor.is_meta:
                return original(tensor, *args, **kwargs)
            return record(tensor, args, kwargs)

        return call
