"""Live progress of an experiment: a bar with the time left on a terminal, a line an arm elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tracekit.model.experiment import Outcome, TurnProgress
from tracekit.render.plaintext import visible
from tracekit.units import format_wait

OnTurn = Callable[[TurnProgress], None]


@contextmanager
def arm_progress(console: Console) -> Iterator[OnTurn]:
    """Show what the yielded function is told, while the block runs. On a terminal the bar is gone afterwards."""

    def tell(turn: TurnProgress) -> None:
        if turn.outcome != Outcome.PLANNED:
            console.print(visible(ended_line(turn)), highlight=False, markup=False, soft_wrap=True)

    if not console.is_terminal:
        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None, left="")

        def show(turn: TurnProgress) -> None:
            done = turn.number - (turn.outcome == Outcome.PLANNED)
            name = f"block {turn.block + 1}, {turn.arm}"
            bar.update(task, description=name, total=turn.turns, completed=done, left=_left(turn))
            tell(turn)

        yield show


def ended_line(turn: TurnProgress) -> str:
    """One line for a turn that ended: which, how, how long it took, how long the rest takes."""
    reason = f": {turn.reason}" if turn.reason else ""
    what = f"{turn.number}/{turn.turns}  block {turn.block + 1}, {turn.arm}  {turn.outcome}{reason}"
    left = _left(turn) if turn.number < turn.turns else ""
    return "  ".join(part for part in (what, format_wait(turn.wall_ns), left) if part)


def _left(turn: TurnProgress) -> str:
    return "" if turn.left_ns is None else f"about {format_wait(turn.left_ns)} left"
