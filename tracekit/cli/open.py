"""``tracekit open``: a run's timeline in the Perfetto UI, or its report, in the browser and without the internet."""

from __future__ import annotations

import contextlib
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.cli.output import next_command, note
from tracekit.errors import UsageError

if TYPE_CHECKING:
    from tracekit.api import Run
    from tracekit.viewer import Site, Viewer


@click.command("open")
@click.argument("paths", metavar="RUN...|TRACE|EXPERIMENT", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--report", is_flag=True, help="Open the report; its links lead into the timeline.")
@click.option("--print-url", is_flag=True, help="Print the address and start no browser: for a remote machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Listen on this port.  [default: a free one]")
def command(paths: tuple[Path, ...], report: bool, print_url: bool, port: int) -> None:
    """Show RUN, a run folder, or TRACE, a trace file, in the Perfetto UI.

    Of several runs, and of an experiment's folder, it is the report.

    Served from this machine to this machine alone. It ends when the page has everything that it needs (with --report:
    when the pages are closed), or on Ctrl-C: both with exit code 0.
    """
    from tracekit.viewer import Viewer

    with contextlib.ExitStack() as stack:
        site = _site(paths, report, stack)
        viewer = stack.enter_context(Viewer(site, port))
        if print_url or not webbrowser.open(viewer.url):
            click.echo(viewer.url)
            _remote_hint(viewer)
        note(f"Serving {' '.join(map(str, paths))}; Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            viewer.wait()
    if len(paths) > 1:
        next_command("tracekit", "compare", *paths[:2])
    else:
        next_command(
            "tracekit", "show" if paths[0].is_dir() else "profile", paths[0] if paths[0].is_dir() else "--help"
        )


def _site(paths: tuple[Path, ...], report: bool, stack: contextlib.ExitStack) -> Site:
    from tracekit import api
    from tracekit.api.report import report_page
    from tracekit.runfolder.experiments import is_experiment
    from tracekit.viewer import report_site, trace_site

    path = paths[0]
    if len(paths) > 1:
        runs = [api.load(each) for each in paths]
        return report_site(report_page(runs).encode(), [_traced(run, stack) for run in runs])
    if is_experiment(path):
        return report_site(_experiment_report(path))
    if path.exists() and not path.is_dir():
        if report:
            raise UsageError(f"{path} is no run folder, so it has no report: leave --report out, or name the folder")
        return trace_site(path, path.name)
    run = api.Run(path)
    traced = _traced(run, stack)
    return report_site(_report(run), [traced]) if report else traced


def _traced(run: Run, stack: contextlib.ExitStack) -> Site:
    from tracekit.viewer import trace_site

    clock = run.manifest.clock
    return trace_site(_trace(run, stack), run.path.resolve().name, clock)


def _trace(run: Run, stack: contextlib.ExitStack) -> Path:
    """The run's trace; made first where there is none, and for this time alone where its folder is read-only."""
    found = run.trace_path
    if found is not None:
        return _own_file(found)
    note("There is no trace in the folder yet: making it.")
    try:
        return run.write_trace()
    except UsageError:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tracekit-"))
        return run.write_trace(Path(folder) / "trace.json.gz")


def _report(run: Run) -> bytes:
    found = run.report_path
    return _own_file(found).read_bytes() if found is not None else run.to_html().encode()


def _experiment_report(folder: Path) -> bytes:
    from tracekit import api
    from tracekit.api.run import REPORT_NAME
    from tracekit.experiment import summarize_experiment
    from tracekit.render.html import render_experiment_page

    if (folder / REPORT_NAME).exists():
        return _own_file(folder / REPORT_NAME).read_bytes()
    return render_experiment_page(summarize_experiment(api.load_experiment(folder))).encode()


def _own_file(path: Path) -> Path:
    """The path, unless it leads out of the run folder, which may come from someone else."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link to another file: name that file if you want to open it")
    return path


def _remote_hint(viewer: Viewer) -> None:
    note("From another machine, forward the port there first, then open the address:")
    note(f"  ssh -N -L {viewer.port}:127.0.0.1:{viewer.port} THIS_MACHINE")
