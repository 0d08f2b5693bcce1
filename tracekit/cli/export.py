"""``tracekit export``: a run's timeline as a Chrome trace, which Perfetto opens."""

from __future__ import annotations

from pathlib import Path

import click

from tracekit.cli import params
from tracekit.cli.output import next_command, note, with_size
from tracekit.errors import UsageError


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Default: RUN/trace.json.gz.")
@click.option(
    "--only-steps",
    metavar="STEPS",
    type=params.step_numbers,
    help="Keep only these steps of each run, such as 0,1,-1 (from 0; negative ones from the end).",
)
@click.option(
    "--max-mb",
    metavar="N",
    type=lambda text: params.size(f"{text}MB"),
    help="Thin the trace to N MB: quick steps go first, then short slices; the slowest steps stay.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(
    run: Path, output: Path | None, only_steps: tuple[int, ...] | None, max_mb: int | None, force: bool
) -> None:
    """Write the timeline of RUN, a run folder, for Perfetto and chrome://tracing.

    Without --output it replaces the trace in the run folder, which is made from the same records.
    """
    from tracekit import api

    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} exists already: choose another --output, or --force to replace it")
    opened = api.load(run)
    path = opened.write_trace(output, only_steps, max_mb)
    click.echo(with_size(path))
    if opened.trace_adjustments:
        note(f"In it: {opened.trace_adjustments}")
    next_command("tracekit", "show", run)
