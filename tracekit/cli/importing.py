"""``tracekit import``: a trace that people already have, as a run folder."""

from __future__ import annotations

from pathlib import Path

import click

from tracekit.cli.output import console, next_command, note


@click.command("import")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="The run folder to make.")
@click.option("--force", is_flag=True, help="Replace DIR if it is a run folder.")
def command(trace: Path, output: Path | None, force: bool) -> None:
    """Read TRACE, a torch.profiler trace (.json or .json.gz), into a run folder.

    Copies, kernels, runtime calls, Python frames and annotations are taken
    over; each ProfilerStep#N is a step. tracekit's own traces can be read back,
    too. What a trace does not say stays blank: residency, module names, memory.
    """
    from tracekit import api
    from tracekit.render.terminal import render_summary

    run = api.import_trace(trace, output, force=force)
    render_summary(run.summary(), console(stderr=False))
    note(f"\nRun    {run.path}")
    next_command("tracekit", "export", run.path)
