"""``tracekit list``: what can be profiled out of the box, and how weights can be offloaded."""

from __future__ import annotations

import click

from tracekit.cli import catalogue
from tracekit.cli.output import next_command


@click.command("list")
def command() -> None:
    """List the built-in pipelines and the offload modes, with what each can do."""
    formatter = click.HelpFormatter(width=80)
    for title, rows in (
        ("Built-in pipelines (made in your cache at first use)", catalogue.pipeline_rows()),
        ("Offload modes (--offload)", catalogue.mode_rows()),
        ("Host memory (--host-memory)", catalogue.host_memory_rows()),
        ("Host memory that each mode can hold beyond the first onload", catalogue.mode_memory_rows()),
        ("Order in which mode partial keeps modules (--resident-order)", catalogue.resident_order_rows()),
    ):
        with formatter.section(title):
            formatter.write_dl(rows)
    click.echo(formatter.getvalue().strip("\n"))
    next_command("tracekit", "profile", catalogue.pipeline_rows()[0][0], "--offload", "sequential")
