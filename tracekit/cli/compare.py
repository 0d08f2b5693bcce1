"""``tracekit compare``: what two runs, or two sets of repeats, do differently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracekit.cli import params
from tracekit.cli.output import console, next_command, note, with_size
from tracekit.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tracekit.api import Run
    from tracekit.model.compare import Comparison

_PATH = click.Path(path_type=Path)


@click.command("compare")
@click.argument("sides", metavar="A B", nargs=-1, type=_PATH)
@click.option("--base", metavar="A", multiple=True, type=_PATH, help="A run of the first side; repeat for repeats.")
@click.option("--with", "other", metavar="B", multiple=True, type=_PATH, help="A run of the second side; likewise.")
@click.option(
    "--fail-above",
    metavar="PERCENT",
    type=params.percentage,
    help="Exit with 3 where B takes longer by more than this, such as 5%, and beyond noise.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON, and nothing else.")
@click.option("--html", "page", metavar="FILE", type=_PATH, help="Write the comparison as one HTML file, too.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(
    sides: tuple[Path, ...],
    base: tuple[Path, ...],
    other: tuple[Path, ...],
    fail_above: float | None,
    as_json: bool,
    page: Path | None,
    force: bool,
) -> int:
    """Compare B with A: settings, times and their causes, modules, memory.

    A and B are run folders, or folders that hold several runs of one configuration. With two runs or more on both
    sides, the runs are the samples; else the warm steps are, and what differs from run to run is not seen.

    \b
      tracekit compare runs/before runs/after --fail-above 5%
      tracekit compare --base a1 --base a2 --with b1 --with b2
    """  # noqa: D301 - \b is click's mark for lines that it must not rewrap
    from tracekit import api
    from tracekit.render.compare import render_comparison
    from tracekit.render.json import render_json

    folders = _folders(sides, base, other)
    if page is not None and page.exists() and not force:
        raise UsageError(f"{page} exists already: choose another --html, or --force to replace it")
    runs = [[run for folder in side for run in _runs(folder)] for side in folders]
    comparison = api.compare(*runs, fail_above=fail_above)
    code = ExitCode.REGRESSION if comparison.regressions else ExitCode.OK
    if page is not None:
        _write_page(comparison, page)
    if as_json:
        click.echo(render_json(comparison))
        return code
    render_comparison(comparison, console(stderr=False))
    note("")
    next_command("tracekit", "open", "--report", runs[1][0].path)
    return code


def _write_page(comparison: Comparison, path: Path) -> None:
    from tracekit.render.files import write_text
    from tracekit.render.html.comparison import render_comparison_page

    note(f"Page  {with_size(write_text(render_comparison_page(comparison), path))}")


def _folders(
    sides: tuple[Path, ...], base: tuple[Path, ...], other: tuple[Path, ...]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    if len(sides) == 2 and not base and not other:
        return sides[:1], sides[1:]
    if base and other and not sides:
        return base, other
    raise UsageError("name two runs to compare, A and B, or several with --base A --base A2 --with B --with B2")


def _runs(folder: Path) -> list[Run]:
    """The run in a folder, or the runs that the folder holds."""
    from tracekit import api
    from tracekit.runfolder.paths import MANIFEST_NAME

    if not (folder / MANIFEST_NAME).exists() and folder.is_dir():
        inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST_NAME}"))
        if inside:
            return [api.load(path) for path in inside]
    return [api.load(folder)]
