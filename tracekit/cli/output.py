"""How commands speak: the next command, and how paths and consoles are shown."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console


def console(*, stderr: bool) -> Console:
    """A console on stdout or stderr: colours only on a terminal, and none under NO_COLOR."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def note(text: str) -> None:
    """Write a line beside the answer, on stderr."""
    click.echo(text, err=True)


def next_command(*words: str | Path) -> None:
    """Close a command with the one that usually follows, ready to paste."""
    note(f"Next: {shlex.join(str(word) for word in words)}")


def with_size(path: Path) -> str:
    """A file's path and its size."""
    return f"{path} ({format_bytes(path.stat().st_size)})"
