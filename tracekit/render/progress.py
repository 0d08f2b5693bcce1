"""Live progress of a profile: one changing line on a terminal, a line a step elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tracekit.model import Progress
from tracekit.units import NS_PER_S, format_bytes, format_duration, format_rate

REFRESH_NS = NS_PER_S // 4
"""How often the line changes: each change costs the profiled thread about a millisecond."""

OnProgress = Callable[[Progress], None]


@contextmanager
def live_progress(console: Console, clock: Callable[[], int] = time.monotonic_ns) -> Iterator[OnProgress]:
    """Show what the yielded function is told, while the block runs. The live line is gone afterwards."""
    if not console.is_terminal:
        yield _StepLines(console, clock)
        return
    # No thread of its own, and the profiled script's output untouched: nothing that an unprofiled run does not do.
    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield _LiveLine(live, clock)


class _LiveLine:
    """Phase, step, bytes so far and the speed since the line changed last."""

    def __init__(self, live: Live, clock: Callable[[], int]) -> None:
        self._live = live
        self._clock = clock
        self._began_ns = self._shown_ns = clock()
        self._shown_bytes = 0

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._shown_ns < REFRESH_NS:
            return
        speed = format_rate(progress.h2d_bytes - self._shown_bytes, now - self._shown_ns)
        self._shown_ns, self._shown_bytes = now, progress.h2d_bytes
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"run {progress.run_index + 1}  " if progress.run_index > 0 else "")
        line.append(progress.phase, style="bold")
        line.append(f"  step {progress.steps_done + 1}  {format_bytes(progress.h2d_bytes)} to the device  ")
        line.append(speed, style="cyan")
        line.append(f"  {format_duration(now - self._began_ns)}", style="dim")
        self._live.update(line, refresh=True)


class _StepLines:
    """A line for each step that ended since the last one."""

    def __init__(self, console: Console, clock: Callable[[], int]) -> None:
        self._console = console
        self._clock = clock
        self._began_ns = clock()
        self._last = (-1, 0)
        self._lock = threading.Lock()  # told from the profiled thread and from a ticking one

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            self._tell(progress, self._clock())

    def _tell(self, progress: Progress, now: int) -> None:
        step = (progress.run_index, progress.steps_done)
        if step == self._last:
            return
        if progress.steps_done > 0:
            run = f"run {progress.run_index + 1} " if progress.run_index > 0 else ""
            self._console.print(
                f"{run}step {progress.steps_done} done after {format_duration(now - self._began_ns)}, "
                f"{format_bytes(progress.h2d_bytes)} to the device",
                highlight=False,
            )
        self._last = step
