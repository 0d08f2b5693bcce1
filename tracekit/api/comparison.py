"""Compare runs that are over."""

from __future__ import annotations

from collections.abc import Sequence

from tracekit.api.run import Run
from tracekit.model.compare import Comparison


def compare(base: Run | Sequence[Run], other: Run | Sequence[Run], *, fail_above: float | None = None) -> Comparison:
    """What `other` does differently: settings, times and their causes, modules, memory.

    Each side is one run, or several that repeat it: with two or more on both sides the runs are the samples, else the
    warm steps are. `fail_above` (a share, 0.05 for 5%) fills `Comparison.regressions`.

    Raises:
        UsageError: a side has no run, or a run no denoising step.
        RunFolderError: a run cannot be read.
    """
    from tracekit.analysis.compare import compare_runs, judged

    sides = [[side] if isinstance(side, Run) else list(side) for side in (base, other)]
    pairs = [[(run.timeline, run.facts) for run in side] for side in sides]
    comparison = compare_runs(*pairs)
    return comparison if fail_above is None else judged(comparison, fail_above)
