"""Verdicts on hypotheses from made-up experiments: the rule, what is never used, what is shown."""

from __future__ import annotations

import msgspec
import pytest
from experiments import S, make_experiment, make_summary
from hypothesis import given
from hypothesis import strategies as st

from tracekit.analysis.hypotheses import MIN_SHARE, effect, summarize_experiment
from tracekit.experiment.paging import paging_plan
from tracekit.model import Cause
from tracekit.model.experiment import Experiment, HypothesisRow, Verdict, Window

BLOCKS = 3


def row(experiment: Experiment, hypothesis: str) -> HypothesisRow:
    return next(row for row in summarize_experiment(experiment).hypotheses if row.hypothesis == hypothesis)


def paging(evicted: list[float], cached: list[float]) -> HypothesisRow:
    times = {"evicted": [(value, 4.0) for value in evicted], "cached": [(value, 4.0) for value in cached]}
    return row(make_experiment(times), "OS paging")


def test_a_large_difference_in_every_block_is_supported() -> None:
    found = paging([14.0, 14.2, 14.4], [4.0, 4.1, 4.5])
    first = found.effect(Window.FIRST)
    assert first.differences_ns == [10_000_000_000, 10_100_000_000, 9_900_000_000]
    assert (first.mean_ns, first.method) == (10 * S, "t")
    # Standard deviation 0.1 s over three pairs.
    assert first.low_ns == pytest.approx(10 * S - 4.302653 * 0.1 * S / 3**0.5, abs=100)
    assert first.share == pytest.approx(10 / 14.2)
    assert found.verdict == first.verdict == Verdict.SUPPORTED
    # The cold step's excess over a warm one is 10.2 s, of which 10 are paging.
    assert found.effect(Window.EXCESS).share == pytest.approx(10 / 10.2)


def test_no_difference_is_refuted() -> None:
    found = paging([14.0, 14.1, 14.2], [14.01, 14.1, 14.19])
    assert found.verdict == Verdict.REFUTED


def test_a_steady_but_small_difference_is_refuted_though_it_is_above_zero() -> None:
    found = paging([10.0, 10.0, 10.0], [9.9, 9.9, 9.9])
    assert found.effects[0].low_ns is not None
    assert found.effects[0].low_ns > 0
    assert found.verdict == Verdict.REFUTED


def test_differences_that_scatter_cannot_be_told() -> None:
    found = paging([14.0, 5.0, 9.0], [4.0, 9.0, 8.0])
    assert found.verdict == Verdict.CANNOT_TELL
    assert "more blocks" in found.reason


def test_one_pair_cannot_be_told_and_its_difference_is_shown_all_the_same() -> None:
    found = paging([14.0], [4.0])
    assert found.effects[0].differences_ns == [10 * S]
    assert found.effects[0].mean_ns is None
    assert found.verdict == Verdict.CANNOT_TELL
    assert "two are needed" in found.reason


def test_a_void_run_is_never_used() -> None:
    times = {
        "evicted": [(14.0, 4.0), "60% of the pages stayed in memory", (14.2, 4.0)],
        "cached": [(4.0, 4.0), (4.0, 4.0), (4.2, 4.0)],
    }
    experiment = make_experiment(times)
    found = row(experiment, "OS paging")
    assert found.effects[0].blocks == [0, 2]
    assert found.effects[0].differences_ns == [10 * S, 10 * S]
    arm = summarize_experiment(experiment).arms[0]
    assert (arm.used, arm.void) == (2, 1)
    assert arm.first_ns == round(14.1 * S)
    assert arm.reasons == ["60% of the pages stayed in memory"]


def test_void_in_every_block_cannot_be_told_and_says_why() -> None:
    times = {"evicted": ["stayed in memory"] * BLOCKS, "cached": [(4.0, 4.0)] * BLOCKS}
    found = row(make_experiment(times), "OS paging")
    assert found.verdict == Verdict.CANNOT_TELL
    assert found.reason == "evicted is void: stayed in memory"


def test_what_was_left_out_cannot_be_told_and_says_why() -> None:
    experiment = make_experiment(
        {name: [(5.0, 4.0)] * 2 for name in ("evicted", "cached", "mapped", "anonymous")},
        paging_plan("w", [], emulated=True, repeats=2),
    )
    for hypothesis in ("driver staging", "PyTorch's allocator", "library and kernel warm-up"):
        found = row(experiment, hypothesis)
        assert found.verdict == Verdict.CANNOT_TELL
        assert "emulated device" in found.reason


def test_a_cause_of_every_step_has_no_part_in_the_excess() -> None:
    times = {
        "evicted": [(14.0, 4.0)] * BLOCKS,
        "anonymous": [(5.0, 4.0), (5.1, 4.1), (5.2, 4.2)],
        "pinned": [(2.0, 1.0), (2.1, 1.1), (2.2, 1.2)],
    }
    found = row(make_experiment(times), "driver staging")
    verdicts = {effect.window: effect.verdict for effect in found.effects}
    assert verdicts.pop(Window.EXCESS) == found.verdict == Verdict.REFUTED
    assert set(verdicts.values()) == {Verdict.SUPPORTED}
    assert found.effect(Window.EXCESS).mean_ns == 0


def test_a_machine_that_is_slow_for_one_process_does_not_move_the_excess() -> None:
    times = {
        "evicted": [(14.0, 4.0), (19.0, 9.0), (12.0, 2.0)],
        "cached": [(4.0, 4.0), (2.0, 2.0), (9.0, 9.0)],
    }
    found = row(make_experiment(times), "OS paging")
    assert found.effect(Window.EXCESS).differences_ns == [10 * S] * BLOCKS
    assert found.verdict == Verdict.SUPPORTED
    assert found.effect(Window.FIRST).verdict == Verdict.CANNOT_TELL


def test_a_run_without_a_warm_step_cannot_tell_and_says_what_to_do() -> None:
    experiment = make_experiment({"evicted": [(14.0, 4.0)] * 2, "cached": [(4.0, 4.0)] * 2})
    for run in experiment.runs:
        run.summary = make_summary(14.0 if run.arm == "evicted" else 4.0, 4.0, later=0)
    found = row(experiment, "OS paging")
    assert found.verdict == Verdict.CANNOT_TELL
    assert "more steps" in found.reason
    assert found.effect(Window.FIRST).verdict == Verdict.SUPPORTED


def test_the_causes_within_the_runs_stand_beside_the_pairs() -> None:
    times = {"evicted": [(14.0, 4.0), (16.0, 5.0)], "cached": [(4.0, 4.0), (5.0, 5.0)]}
    experiment = make_experiment(times)
    for run in experiment.runs:
        assert run.summary is not None
        for cause in run.summary.causes:  # all that is not unattributed, 9 of 10 parts, is paging here
            cause.cause = Cause.DISK if cause.cause == Cause.LINK else cause.cause
    found = row(experiment, "OS paging")
    assert found.effect(Window.FIRST).inside_ns == round((9.0 + 9.9) / 2 * S)
    assert found.effect(Window.EXCESS).inside_ns == found.effect(Window.FIRST).inside_ns
    assert found.effect(Window.WARM).inside_ns == 0
    assert found.effect(Window.RUN).inside_ns is None
    assert row(experiment, "page mapping").effect(Window.EXCESS).inside_ns is None


def test_an_unfinished_experiment_says_so_and_uses_what_there_is() -> None:
    times = {"evicted": [(14.0, 4.0), (14.0, 4.0), None], "cached": [(4.0, 4.0), (4.1, 4.0), (4.2, 4.0)]}
    summary = summarize_experiment(make_experiment(times))
    assert (summary.finished, summary.turns) == (5, 6)
    assert "1 of 6 arms have not run yet" in summary.warnings[0]
    assert summary.hypotheses[0].effects[0].blocks == [0, 1]


def test_the_verdict_names_what_it_is_and_what_it_is_not() -> None:
    times = {
        "evicted": [(14.0, 4.0), (14.2, 4.0), (14.4, 4.0)],
        "cached": [(4.0, 4.0), (4.2, 4.0), (4.4, 4.0)],
        "mapped": [(3.99, 4.0), (4.2, 4.0), (4.41, 4.0)],
    }
    text = summarize_experiment(make_experiment(times)).verdict
    assert text.startswith("With weights in mmapped files, on disk alone, step 1 takes 10.2 s more than a warm step.")
    assert "What makes the difference: OS paging (10.0 s; 95% interval 10.0 s to 10.0 s)." in text
    assert "What does not: page mapping (at most 24.8 ms)." in text


def test_the_arms_have_their_causes_in_medians() -> None:
    arm = summarize_experiment(make_experiment({"evicted": [(10.0, 4.0)] * 2, "cached": [(5.0, 4.0)] * 2})).arms[0]
    assert arm.first_causes_ns == {Cause.LINK: 9 * S, Cause.UNATTRIBUTED: S}
    assert arm.warm_causes_ns[Cause.LINK] == round(3.6 * S)
    # Set-up is no part of a run.
    assert (arm.setup_ns, arm.run_ns) == (7 * S, 22 * S)


def test_a_summary_survives_json() -> None:
    experiment = make_experiment({"evicted": [(14.0, 4.0), "void"], "cached": [(4.0, 4.0), None]})
    assert msgspec.json.decode(msgspec.json.encode(experiment), type=Experiment) == experiment
    summary = summarize_experiment(experiment)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=type(summary)) == summary


times_by_block = st.dictionaries(st.integers(0, 6), st.integers(1, 10**11), max_size=7)


@given(times_by_block, times_by_block, times_by_block)
def test_the_rule_holds_whatever_the_times(
    slow: dict[int, int], fast: dict[int, int], baseline: dict[int, int]
) -> None:
    reference = baseline or slow
    scale = sum(reference.values()) / len(reference) if reference else 0.0
    least = MIN_SHARE * scale
    found = effect(Window.FIRST, slow, fast, scale=scale, least=least)
    assert found.blocks == sorted(slow.keys() & fast.keys())
    assert found.differences_ns == [slow[block] - fast[block] for block in found.blocks]
    if len(found.blocks) < 2:
        assert (found.verdict, found.mean_ns) == (Verdict.CANNOT_TELL, None)
        return
    assert found.low_ns is not None
    assert found.high_ns is not None
    assert found.mean_ns is not None
    assert found.low_ns - 1 <= found.mean_ns <= found.high_ns + 1
    if found.verdict == Verdict.SUPPORTED:
        assert found.low_ns >= 0
        assert found.mean_ns >= least - 1
    if found.verdict == Verdict.REFUTED:
        assert found.high_ns <= least + 1
    if found.verdict == Verdict.CANNOT_TELL:
        assert found.high_ns >= least - 1


@given(times_by_block)
def test_equal_arms_cost_nothing_and_are_never_supported(times: dict[int, int]) -> None:
    found = effect(Window.FIRST, times, times, scale=1.0, least=MIN_SHARE)
    assert set(found.differences_ns) <= {0}
    assert found.verdict == (Verdict.REFUTED if len(times) >= 2 else Verdict.CANNOT_TELL)
