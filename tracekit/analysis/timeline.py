"""Build the timeline of a run folder: everything that renderers and the summary need, derived once."""

from __future__ import annotations

from tracekit.analysis.launches import LaunchFinder
from tracekit.analysis.phases import find_phases
from tracekit.analysis.spans import SpanTree, describe_spans
from tracekit.analysis.transfers import describe_copies
from tracekit.model import RunData, Timeline


def build_timeline(run: RunData) -> Timeline:
    """The run's rows with phases, steps, device times and the rest that `Timeline` documents."""
    tree = SpanTree(run.spans)
    phases = find_phases(run, tree.parent)
    launches = LaunchFinder(run.runtime_calls)
    return Timeline(
        run=run,
        runs=phases.runs,
        denoisers=phases.denoisers,
        steps=phases.steps,
        spans=describe_spans(run, phases, tree, launches),
        copies=describe_copies(run, phases, tree, launches),
    )
