"""``tracekit show``: the summary of a run, for people or as JSON."""

from __future__ import annotations

from pathlib import Path

import click

from tracekit.cli.output import console, next_command, note


@click.command("show")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
def command(run: Path, as_json: bool) -> None:
    """Print the summary of RUN, a run folder: verdict, steps, cold against warm, modules, what to do."""
    from tracekit import api
    from tracekit.render.json import render_json
    from tracekit.render.terminal import render_summary

    summary = api.load(run).summary()
    if as_json:
        click.echo(render_json(summary))
        return
    render_summary(summary, console(stderr=False))
    note("")
    next_command("tracekit", "export", run)
