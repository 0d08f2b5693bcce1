"""``tracekit checkpoint``: save a built-in pipeline where the user wants it."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from tracekit.cli.output import console, next_command, note
from tracekit.units import format_bytes
from tracekit.workload.synthetic import SYNTHETIC


def _complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in SYNTHETIC if name.startswith(incomplete)]


@click.command("checkpoint")
@click.argument("name", shell_complete=_complete_name)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(name: str, directory: Path) -> None:
    """Save the built-in pipeline NAME as an ordinary diffusers folder DIR.

    DIR must not exist; it appears when it is whole. `tracekit list` has the names.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from tracekit.workload.checkpoint import make_checkpoint

    screen = console(stderr=True)
    columns = (TextColumn("Writing {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        folder = make_checkpoint(name, directory, lambda done, total: bar.update(task, completed=done, total=total))
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    note(f"Wrote {folder} ({format_bytes(size)})")
    next_command("tracekit", "profile", folder, "--offload", "sequential")
