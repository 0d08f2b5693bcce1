"""A run folder as an object: its tables, what analysis makes of them, and the trace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tracekit.model import Manifest, RunData, Summary, Timeline

if TYPE_CHECKING:
    import pandas as pd

TRACE_NAME = "trace.json.gz"


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

    @property
    def manifest(self) -> Manifest:
        """What was profiled, on what, and how far the numbers can be trusted."""
        return self.data.manifest

    @cached_property
    def timeline(self) -> Timeline:
        """The tables with runs, steps, phases and device times derived."""
        from tracekit.analysis import build_timeline

        return build_timeline(self.data)

    @cached_property
    def _summary(self) -> Summary:
        from tracekit.analysis import summarize

        return summarize(self.timeline)

    def summary(self) -> Summary:
        """The verdict and the figures behind it."""
        return self._summary

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

    @property
    def trace_path(self) -> Path | None:
        """The Chrome trace in the folder, if one was written."""
        path = self.path / TRACE_NAME
        return path if path.exists() else None

    def write_trace(self, path: str | Path | None = None, only_steps: Sequence[int] | None = None) -> Path:
        """Write the Chrome trace, by default into the folder, and return its path.

        `only_steps` are step indexes from 0 (negative: from the end); the others are left out, and the trace says so.

        Raises:
            UsageError: the file cannot be written, or no such step exists.
        """
        from tracekit.render.chrome import write_chrome_trace
        from tracekit.render.files import write_file

        target = Path(path) if path is not None else self.path / TRACE_NAME

        def write(stream: BinaryIO) -> None:
            self.trace_adjustments = write_chrome_trace(self.timeline, stream, only_steps).adjustments()

        write_file(target, write)
        return target

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load(path: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunFolderError: it is none, it is damaged, or another version of tracekit made it.
    """
    run = Run(Path(path))
    _ = run.data
    return run
