"""Take the patches off while torch.compile traces, so that it meets the originals alone.

A compiled region must come out as it would without tracekit, and tracing a compiled hook is no more possible than
tracing any C function: ``fullgraph=True`` would fail. torch tells of a compilation's begin and end through private
names of ``torch._dynamo.callback``, once for nested and simultaneous ones. Its lists of callbacks are emptied by
``torch._dynamo.reset()``, so that the two methods that call them are wrapped instead.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import nn

from tracekit.capture.patches import Patches


class CompilationWatch:
    """Suspends `patches` while anything is being compiled. Other threads are not recorded meanwhile."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._own = Patches()  # those that stay on when the others are off

    def install(self, dynamo: ModuleType) -> None:
        """Patch ``torch._dynamo``, once it is imported."""
        handler = type(dynamo.callback_handler)
        self._own.wrap(handler, "run_start_callbacks", self._started)
        self._own.wrap(handler, "run_end_callbacks", self._ended)
        # dynamo remembers nn.Module.__call__ when it is imported, to know it again, and goes straight to a module's
        # forward then. What it remembered is ours if we were first. While ours is on, it is the one to know: strict
        # torch.export traces without telling that it begins.
        ours = self._patches.replacement(nn.Module, "__call__")
        for module in (dynamo.utils, dynamo.variables.nn_module):
            if module.unpatched_nn_module_call is ours:
                module.unpatched_nn_module_call = ours.__wrapped__
            self._patches.replace(module, "unpatched_nn_module_call", ours)

    def remove(self) -> None:
        """Put torch's methods back."""
        self._own.remove()

    def _started(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run_start_callbacks(*args: Any) -> Any:
            self._patches.suspend()
            return original(*args)

        return run_start_callbacks

    def _ended(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def run_end_callbacks(*args: Any) -> Any:
            try:
                return original(*args)
            finally:
                self._patches.resume()

        return run_end_callbacks
