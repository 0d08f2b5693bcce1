from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from tracekit.model import Progress
from tracekit.render.progress import live_progress

SECOND = 1_000_000_000


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def shown(*told: tuple[float, Progress], **console: Any) -> str:
    stream, clock = io.StringIO(), Clock()
    with live_progress(Console(file=stream, width=80, **console), clock) as on_progress:
        for seconds, progress in told:
            clock.now_ns = int(seconds * SECOND)
            on_progress(progress)
    return stream.getvalue()


def test_off_a_terminal_each_step_is_one_plain_line() -> None:
    text = shown(
        (1, Progress(0, "text_encoder", 0, 500_000_000)),
        (2, Progress(0, "transformer", 0, 600_000_000)),
        (13, Progress(0, "transformer", 1, 24_300_000_000)),
        (17, Progress(0, "transformer", 2, 48_100_000_000)),
        (17.5, Progress(0, "vae", 2, 48_200_000_000)),
        (18, Progress(1, "transformer", 0, 48_200_000_000)),
        (20, Progress(1, "transformer", 1, 58_200_000_000)),
    )
    assert text.splitlines() == [
        "step 1 done after 13.0 s, 24.3 GB to the device",
        "step 2 done after 17.0 s, 48.1 GB to the device",
        "run 2 step 1 done after 20.0 s, 58.2 GB to the device",
    ]


def test_on_a_terminal_the_line_says_phase_step_bytes_and_current_speed() -> None:
    text = shown(
        (1, Progress(0, "text_encoder", 0, 500_000_000)),
        (1.1, Progress(0, "too soon to be shown", 0, 600_000_000)),
        (2, Progress(0, "transformer", 0, 8_500_000_000)),
        force_terminal=True,
        color_system=None,
    )
    assert "text_encoder  step 1  500 MB to the device  500 MB/s  1.00 s" in text
    assert "transformer  step 1  8.50 GB to the device  8.00 GB/s  2.00 s" in text
    assert "too soon" not in text


def test_on_a_terminal_the_line_is_gone_at_the_end() -> None:
    text = shown((1, Progress(0, "transformer", 0, 1)), force_terminal=True, color_system=None)
    assert text.endswith("\x1b[1A\x1b[2K")  # up one line, and that line erased
