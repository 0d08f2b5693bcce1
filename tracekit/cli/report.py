"""``tracekit report``: one self-contained HTML file of a run, or of several beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from tracekit.cli.output import next_command, note, with_size
from tracekit.errors import UsageError


@click.command("report")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Default: RUN/report.html; of several runs, report.html in this folder.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--open", "in_browser", is_flag=True, help="Show it in the browser.")
def command(runs: tuple[Path, ...], output: Path | None, force: bool, in_browser: bool) -> None:
    """Write the report of RUN, a run folder: one HTML file that needs no network and no other file.

    Several run folders give one report with the runs side by side. Without --output the report in the run folder is
    replaced, which is made from the same records.
    """
    from tracekit import api
    from tracekit.api.report import report_page, write_page
    from tracekit.api.run import REPORT_NAME

    target = output or (runs[0] / REPORT_NAME if len(runs) == 1 else Path(REPORT_NAME))
    is_own = output is None and len(runs) == 1
    if target.exists() and not force and not is_own:
        raise UsageError(f"{target} exists already: choose another --output, or --force to replace it")
    opened = [api.load(path) for path in runs]
    path = write_page(report_page(opened), target)
    click.echo(with_size(path))
    if in_browser and click.launch(str(path.resolve())) != 0:
        note(f"No browser could be started: open {path} in one.")
    next_command("tracekit", "open", runs[0])
