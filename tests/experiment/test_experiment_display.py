"""What an experiment looks like: rows, 80 columns, progress with the time left."""

from __future__ import annotations

import io

import pytest
from experiments import S, make_experiment
from golden import assert_golden
from rich.console import Console

from tracekit.analysis.hypotheses import summarize_experiment
from tracekit.experiment.paging import paging_plan
from tracekit.experiment.runner import expected_ns
from tracekit.model.experiment import ArmRun, ExperimentSummary, Outcome, TurnProgress, Window
from tracekit.render.armprogress import arm_progress, ended_line
from tracekit.render.blocks import WIDTH
from tracekit.render.experiment import arm_rows, difference_lines, hypothesis_rows, render_experiment
from tracekit.units import DurationUnit

SECONDS = DurationUnit.fitting(S)
NAMES = ("evicted", "cached", "mapped", "anonymous")


def summary(blocks: int = 3) -> ExperimentSummary:
    times = {
        name: [(14.0 - 3 * index + 0.1 * block, 4.0) for block in range(blocks)] for index, name in enumerate(NAMES)
    }
    return summarize_experiment(make_experiment(times, paging_plan("w", [], emulated=True, repeats=blocks)))


def printed(shown: ExperimentSummary) -> str:
    stream = io.StringIO()
    render_experiment(shown, Console(file=stream, width=200, highlight=False))
    return stream.getvalue()


def test_golden() -> None:
    assert_golden("experiment.txt", "".join(f"{line.rstrip()}\n" for line in printed(summary()).splitlines()))


def test_rows() -> None:
    shown = summary()
    rows = hypothesis_rows(shown.hypotheses, Window.EXCESS, SECONDS)
    assert rows[0] == ["OS paging", "supported", "3.00", "3.00 to 3.00", "0.00", "30%"]
    assert rows[2] == ["driver staging", "cannot tell", "-", "-", "-", "-"]
    (warm, *_) = hypothesis_rows(shown.hypotheses, Window.WARM, SECONDS)
    assert warm == ["OS paging", "refuted", "0.00", "0.00 to 0.00", "0.00", "0%"]
    assert arm_rows(shown.arms, SECONDS)[0] == ["evicted", "3", "7.00", "14.10", "4.00", "26.10", "1.00 kB"]
    assert [row[0] for row in arm_rows(shown.arms, SECONDS)] == list(NAMES)


def test_every_difference_is_shown() -> None:
    lines = difference_lines(summary(blocks=7).hypotheses, SECONDS)
    assert lines[0] == "  OS paging: evicted - cached"
    assert lines[1].count("3.00") >= 7
    # Windows without a pair, and hypotheses without one, have no line.
    assert not any("driver staging" in line for line in lines)


def test_wide_intervals_of_short_steps_lose_nothing() -> None:
    # Two noisy pairs of steps of 0.3 s: the interval reaches seconds to both sides.
    times = {name: [(0.3, 0.2), (0.9, 0.2)] if name == "evicted" else [(0.9, 0.2), (0.3, 0.2)] for name in NAMES}
    text = printed(summarize_experiment(make_experiment(times, paging_plan("w", [], emulated=True, repeats=2))))
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "…" not in text


@pytest.mark.parametrize("blocks", [1, 3, 12])
def test_it_fits_80_columns_and_loses_nothing(blocks: int) -> None:
    shown = summary(blocks)
    text = printed(shown)
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    assert "…" not in text
    words = " ".join(text.split())
    for row in shown.hypotheses:
        assert row.hypothesis in words
        for effect in row.effects:
            assert all(SECONDS.text(ns) in words for ns in effect.differences_ns)


def test_reasons_are_shown() -> None:
    text = " ".join(printed(summary()).split())
    assert "driver staging: the emulated device has no page-locked memory" in text


def turn(number: int, outcome: Outcome, left_ns: int | None, reason: str = "") -> TurnProgress:
    return TurnProgress(
        number=number, turns=3, block=0, arm="cached", outcome=outcome, reason=reason, wall_ns=31 * S, left_ns=left_ns
    )


def test_a_line_an_arm_with_the_time_left() -> None:
    assert ended_line(turn(1, Outcome.DONE, 150 * S)) == "1/3  block 1, cached  done  31 s  about 2 min left"
    assert ended_line(turn(2, Outcome.VOID, 31 * S, "no pages")) == (
        "2/3  block 1, cached  void: no pages  31 s  about 31 s left"
    )
    assert ended_line(turn(3, Outcome.FAILED, 0, "no memory")) == "3/3  block 1, cached  failed: no memory  31 s"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_prints_each_end_once(terminal: bool) -> None:
    stream = io.StringIO()
    with arm_progress(Console(file=stream, force_terminal=terminal, width=120)) as on_turn:
        on_turn(turn(1, Outcome.PLANNED, None))
        on_turn(turn(1, Outcome.DONE, 62 * S))
    assert stream.getvalue().count("done  31 s  about 62 s left") == 1


def test_time_left_is_that_of_the_same_arm_where_it_is_known() -> None:
    finished = [
        ArmRun(block=0, arm="slow", outcome=Outcome.DONE, wall_ns=90 * S),
        ArmRun(block=0, arm="fast", outcome=Outcome.DONE, wall_ns=10 * S),
        ArmRun(block=1, arm="fast", outcome=Outcome.DONE, wall_ns=20 * S),
    ]
    left = [ArmRun(block=1, arm="slow"), ArmRun(block=2, arm="fast"), ArmRun(block=0, arm="new")]
    assert expected_ns(finished, left[:2]) == 105 * S
    assert expected_ns(finished, left) == 125 * S
    assert expected_ns([], left) is None
