"""``tracekit show``: the summary of a run or of an experiment, for people or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.cli.output import console, next_command, note

if TYPE_CHECKING:
    from tracekit.model.experiment import Experiment


@click.command("show")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
def command(run: Path, as_json: bool) -> None:
    """Print the summary of RUN, a run folder: verdict, what to change, steps, causes, modules.

    Of an experiment's folder: the verdict on each hypothesis, every difference, the arms.
    """
    from tracekit import api
    from tracekit.render.json import render_json
    from tracekit.render.terminal import render_summary
    from tracekit.runfolder.experiments import is_experiment

    if is_experiment(run):
        _show_experiment(run, as_json)
        return
    opened = api.load(run)
    summary = opened.summary()
    if as_json:
        click.echo(render_json(summary))
        return
    render_summary(summary, console(stderr=False))
    note("")
    next_command("tracekit", "open", run, "--report")


def _show_experiment(folder: Path, as_json: bool) -> None:
    from tracekit import api
    from tracekit.experiment import summarize_experiment
    from tracekit.render.experiment import render_experiment
    from tracekit.render.json import render_json

    experiment = api.load_experiment(folder)
    summary = summarize_experiment(experiment)
    if as_json:
        click.echo(render_json(summary))
        return
    render_experiment(summary, console(stderr=False))
    note("")
    arm = _kept_run(experiment, folder)
    next_command(*("tracekit", "report", folder) if arm is None else ("tracekit", "show", arm))


def _kept_run(experiment: Experiment, folder: Path) -> Path | None:
    """The run folder of a finished arm, the baseline's first; None where the arms' runs were not kept."""
    from tracekit.model.experiment import Outcome
    from tracekit.runfolder.paths import MANIFEST_NAME

    done = [run for run in experiment.runs if run.outcome == Outcome.DONE]
    by_interest = sorted(done, key=lambda run: run.arm != experiment.plan.baseline)
    folders = [folder / f"block-{run.block}" / run.arm for run in by_interest]
    return next((path for path in folders if (path / MANIFEST_NAME).is_file()), None)
