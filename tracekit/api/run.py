"""A run folder as an object: its tables, what analysis makes of them, its charts, report and trace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tracekit.api.figures import Figures
from tracekit.api.tables import rows_frame
from tracekit.errors import RunFolderError, UsageError
from tracekit.model import CauseRow, Manifest, ModuleRow, RunData, StepRow, Summary, Timeline, TransferRow

if TYPE_CHECKING:
    import pandas as pd

    from tracekit.analysis.prediction.predictor import Predictor
    from tracekit.model.plan import OffloadPlan
    from tracekit.model.report import Report

TRACE_NAME = "trace.json.gz"
REPORT_NAME = "report.html"


class Run:
    """A profile that is over. Everything is read from the folder when first asked for, without torch or a GPU.

    Raises:
        RunFolderError: (any attribute) the folder cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trace_adjustments = ""
        """What the trace written last had to change or leave out, in one line; empty when nothing."""

    @cached_property
    def data(self) -> RunData:
        """The folder's manifest and tables."""
        from tracekit.runfolder import read_run

        return read_run(self.path)

    @cached_property
    def manifest(self) -> Manifest:
        """What was profiled, on what, and how far the numbers can be trusted. Read without the tables."""
        from tracekit.runfolder.reader import read_manifest

        return read_manifest(self.path)

    @cached_property
    def timeline(self) -> Timeline:
        """The tables with runs, steps, phases and device times derived."""
        from tracekit.analysis import build_timeline

        return build_timeline(self.data)

    @cached_property
    def predictor(self) -> Predictor | None:
        """What predicts other configurations from this run; None where it has no device records, or no whole step."""
        from tracekit.analysis.prediction.predictor import Predictor

        try:
            return Predictor(self.timeline)
        except UsageError:
            return None

    @cached_property
    def facts(self) -> Summary:
        """The summary without advice, which takes predictions."""
        from tracekit.analysis import summarize

        return summarize(self.timeline)

    @cached_property
    def _advised(self) -> Summary:
        from tracekit.analysis.findings import advised

        return advised(self.timeline, self.facts, self.predictor)

    def summary(self) -> Summary:
        """The verdict, the figures behind it, and what to change."""
        return self._advised

    @cached_property
    def spans(self) -> pd.DataFrame:
        """One row a span; columns as in `Timeline.spans`, texts as plain strings."""
        from tracekit.model.text import plain_text

        return plain_text(self.timeline.spans)

    @cached_property
    def copies(self) -> pd.DataFrame:
        """One row a copy; columns as in `Timeline.copies`, texts as plain strings."""
        from tracekit.model.text import plain_text

        return plain_text(self.timeline.copies)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row a denoising step; columns as the fields of `StepRow`."""
        return rows_frame(StepRow, self.facts.steps)

    @cached_property
    def modules(self) -> pd.DataFrame:
        """One row a module whose weights were onloaded; columns as the fields of `ModuleRow`."""
        return rows_frame(ModuleRow, self.facts.modules)

    @cached_property
    def causes(self) -> pd.DataFrame:
        """One row a cause of a step, of which each step's add up to its wall time; columns as in `CauseRow`."""
        return rows_frame(CauseRow, self.facts.causes)

    @cached_property
    def transfers(self) -> pd.DataFrame:
        """Cold against warm, one row a component, a module or a parameter; columns as in `TransferRow`."""
        return rows_frame(TransferRow, self.facts.transfers)

    @cached_property
    def _report(self) -> Report:
        from tracekit.analysis.report import build_report

        return build_report([self.reported()])

    def reported(self) -> tuple[Timeline, Summary, OffloadPlan | None]:
        """What a report needs of this run. Its plan is the one that was kept in the folder, else made now."""
        from tracekit.analysis.prediction.planner import make_plan
        from tracekit.runfolder.plans import read_plan

        kept = read_plan(self.path)
        if kept is None and self.predictor is not None:
            kept = make_plan(self.timeline, predictor=self.predictor)
        return self.timeline, self.summary(), kept

    @property
    def figures(self) -> Figures:
        """The report's charts as plotly figures: ``run.figures.steps()``."""
        return Figures(self._report)

    def to_html(self) -> str:
        """The report: one HTML page that needs no network and no other file."""
        from tracekit.render.html import render_report

        return render_report(self._report)

    @property
    def report_path(self) -> Path | None:
        """The report in the folder, if one was written."""
        path = self.path / REPORT_NAME
        return path if path.exists() else None

    def write_report(self, path: str | Path | None = None) -> Path:
        """Write the report, by default into the folder, and return its path.

        Raises:
            UsageError: the file cannot be written.
        """
        from tracekit.render.files import write_text

        return write_text(self.to_html(), Path(path) if path is not None else self.path / REPORT_NAME)

    def _repr_html_(self) -> str:
        """The report within a notebook, by IPython's convention, isolated from the notebook's own page."""
        from tracekit.render.notebook import isolated

        return isolated(self.to_html())

    @property
    def trace_path(self) -> Path | None:
        """The Chrome trace in the folder, if one was written."""
        path = self.path / TRACE_NAME
        return path if path.exists() else None

    def write_trace(
        self, path: str | Path | None = None, only_steps: Sequence[int] | None = None, max_bytes: int | None = None
    ) -> Path:
        """Write the Chrome trace, by default into the folder, and return its path.

        `only_steps` are step indexes from 0 (negative: from the end); the others are left out, and the trace says so.
        With `max_bytes` quick steps, then short slices are left out until the file is no larger.

        Raises:
            UsageError: the file cannot be written, or no such step exists, or nothing fits into `max_bytes`.
        """
        from tracekit.render.chrome import write_chrome_trace
        from tracekit.render.files import write_file
        from tracekit.render.thinning import write_fitting_trace

        target = Path(path) if path is not None else self.path / TRACE_NAME

        def write(stream: BinaryIO) -> None:
            if max_bytes is None:
                stats = write_chrome_trace(self.timeline, stream, only_steps)
            else:
                stats = write_fitting_trace(self.timeline, stream, max_bytes, only_steps)
            self.trace_adjustments = stats.adjustments(steps=only_steps is None)

        write_file(target, write)
        return target

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunFolderError: it is none, it is damaged, or another version of tracekit made it.
    """
    from tracekit.runfolder.experiments import is_experiment

    if is_experiment(Path(path)):
        raise RunFolderError(
            f"{path} is an experiment's folder: name one of the runs in it (load_experiment opens it whole)"
        )
    run = Run(Path(path))
    _ = run.data
    return run
