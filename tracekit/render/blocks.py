"""What terminal output is built from: tables, lines, bullets, printed within 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.segment import Segment, SegmentLines
from rich.table import Table
from rich.text import Text

from tracekit.render.plaintext import visible

WIDTH = 80


def print_blocks(blocks: Sequence[RenderableType], console: Console) -> None:
    """Print blocks with an empty line between; `console` decides where to, and whether in colour."""
    spaced = [part for block in blocks for part in (block, Text())]
    options = console.options.update(width=min(WIDTH, console.width), highlight=False)
    # Tables fill their cells with blanks: none at a line's end, where they only show when the text is copied.
    lines = [_stripped(line) for line in console.render_lines(Group(*spaced[:-1]), options, pad=False)]
    console.print(SegmentLines(lines, new_lines=True), end="")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> RenderableType:
    """A table of texts, its first column to the left and the others to the right, with a dim note below."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        drawn.add_column(Text(column, style="dim"), justify="right" if index else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    return Group(drawn, Text(note, style="dim")) if note else drawn


def text_lines(texts: Sequence[str]) -> Text:
    """Lines of text."""
    return Text("\n").join(Text(visible(text)) for text in texts)


def bullets(label: str, texts: Sequence[str], style: str) -> RenderableType:
    """Paragraphs, each behind the same label."""
    drawn = Table.grid(padding=(0, 2, 0, 0))
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for text in texts:
        drawn.add_row(Text(label, style=style), Text(visible(text)))
    return drawn


def _stripped(line: list[Segment]) -> list[Segment]:
    while line and not line[-1].text.rstrip():
        line = line[:-1]
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []
