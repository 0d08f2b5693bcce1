"""tracekit: profile and trace weight offloading in diffusion pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekit.api import Run, compare, load, load_experiment, profile

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "compare", "load", "load_experiment", "profile"]


def __getattr__(name: str) -> Any:
    # The command line asks for the version alone, and torch or pandas must not be imported for that.
    if name in ("Run", "compare", "load", "load_experiment", "profile"):
        from tracekit import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
