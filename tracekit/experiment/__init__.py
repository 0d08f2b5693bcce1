"""Experiments: arms in processes of their own, paired in blocks, that change one thing at a time.

In Python: `paging_plan` makes a plan, `run_experiment` runs it in a folder, `summarize_experiment` judges it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracekit.analysis.hypotheses import summarize_experiment
    from tracekit.experiment.paging import paging_plan
    from tracekit.experiment.runner import run_experiment

__all__ = ["paging_plan", "run_experiment", "summarize_experiment"]

_HOMES = {
    "paging_plan": "tracekit.experiment.paging",
    "run_experiment": "tracekit.experiment.runner",
    "summarize_experiment": "tracekit.analysis.hypotheses",
}


def __getattr__(name: str) -> Any:
    # The command line asks for the arms' names alone, and pandas must not be imported for its help text.
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
