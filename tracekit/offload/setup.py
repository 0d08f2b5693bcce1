"""The seam through which set-up work is recorded: offload does not know who records it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

SetupSpans = Callable[[str], AbstractContextManager[object]]
"""Opens a span around a piece of set-up work, named by what it does."""
