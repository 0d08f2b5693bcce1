"""``tracekit report``: one self-contained HTML file of a run, or of several beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from tracekit.cli.output import next_command, note, with_size
from tracekit.errors import UsageError


@click.command("report")
@click.argument("runs", metavar="RUN|EXPERIMENT...", nargs=-1, required=True, type=click.Path(path_type=Path))
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

    Several run folders give one report with the runs side by side; an experiment's folder gives one that leads with the
    hypotheses' verdicts. Without --output the report in the run folder is
    replaced, which is made from the same records.
    """
    from tracekit.api.run import REPORT_NAME
    from tracekit.render.files import write_text

    target = output or (runs[0] / REPORT_NAME if len(runs) == 1 else Path(REPORT_NAME))
    is_own = output is None and len(runs) == 1
    if target.exists() and not force and not is_own:
        raise UsageError(f"{target} exists already: choose another --output, or --force to replace it")
    path = write_text(_page(runs), target)
    click.echo(with_size(path))
    if in_browser and click.launch(str(path.resolve())) != 0:
        note(f"No browser could be started: open {path} in one.")
    next_command("tracekit", "open", *runs)


def _page(folders: tuple[Path, ...]) -> str:
    from tracekit import api
    from tracekit.api.report import report_page
    from tracekit.experiment import summarize_experiment
    from tracekit.render.html import render_experiment_page
    from tracekit.runfolder.experiments import is_experiment

    if not any(is_experiment(folder) for folder in folders):
        return report_page([api.load(folder) for folder in folders])
    if len(folders) > 1:
        raise UsageError("an experiment's folder has a report of its own: name it alone, or name runs")
    return render_experiment_page(summarize_experiment(api.load_experiment(folders[0])))
