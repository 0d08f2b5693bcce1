"""The state of each thread that runs profiled code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol


class ThreadState(Protocol):
    """What is going on in one thread."""

    thread_id: int
    run_index: int
    copying: bool
    """A copy is being made: what it calls is no copy of its own."""
    label: tuple[int, int] | None
    """Interned FQN and parameter of the weight that is being moved."""
    group: Any
    """diffusers' ModuleGroup that is being moved."""

    @property
    def idle(self) -> bool:
        """No span is open."""

    @property
    def span_id(self) -> int:
        """The innermost open span, or `NONE`."""


class ThreadLocal(threading.local):
    """The calling thread's state: one look-up, after which its attributes are plain ones.

    `threads` learns each thread's native id by Kineto's name for it; `default_run` holds the run that a thread is in
    when it is seen first.
    """

    def __init__(
        self, make: Callable[[int, int], ThreadState], threads: dict[int, int], default_run: list[int]
    ) -> None:
        self.thread = make(default_run[0], threading.get_native_id())
        threads[kineto_thread_id(threading.get_ident())] = self.thread.thread_id


def kineto_thread_id(ident: int) -> int:
    """What Kineto calls a thread in its trace, from ``threading.get_ident()``, which is pthread_self().

    CUPTI keeps the low 32 bits, Kineto reads them as a signed number and writes its absolute value (sanitizeTid in
    libkineto's output_json.cpp).
    """
    low = ident & 0xFFFFFFFF
    return min(low, (1 << 32) - low)
