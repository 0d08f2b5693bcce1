"""Comparisons of runs whose differences are known beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from builders import KERNEL_NS, START_NS, build_run, make_run
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.compare import compare_runs, judged
from tracekit.analysis.compare.compare import FIRST, SETUP, TOTAL, WARM
from tracekit.errors import UsageError
from tracekit.model import OffloadInfo, RunData, Summary, Timeline
from tracekit.model.compare import Comparison, Difference, Outcome, SampleUnit

Pair = tuple[Timeline, Summary]


def pair(run: RunData) -> Pair:
    timeline = build_timeline(run)
    return timeline, summarize(timeline)


def built(**options: Any) -> Pair:
    return pair(build_run(**({"steps": 5} | options)))


@pytest.fixture(scope="module")
def base() -> Pair:
    return built()


@pytest.fixture(scope="module")
def slower() -> Pair:
    """A quarter more bytes: the copies take a quarter longer."""
    return built(weight_bytes=10_000_000)


def named(rows: list[Difference]) -> dict[str, Difference]:
    return {row.name: row for row in rows}


def test_identical_runs_do_not_differ(base: Pair) -> None:
    found = judged(compare_runs([base], [base]), 0.0)
    every = [*found.times, *found.warm_causes, *found.first_causes, *found.memory, *found.traffic]
    assert {row.difference for row in every} == {0}
    assert {row.outcome for row in every} == {Outcome.NOISE, Outcome.UNKNOWN}
    assert (found.configuration, found.modules.changed, found.regressions) == ([], [], [])
    assert found.modules.compared == 8
    assert found.verdict.startswith("No difference beyond noise in a warm step (3.51 ms to 3.51 ms, means of 4 and 4")


def test_slower_copies_are_found_where_they_are(base: Pair, slower: Pair) -> None:
    found = judged(compare_runs([base], [slower]), 0.05)
    times = named(found.times)
    walls = [[step.wall_ns for step in summary.steps] for _, summary in (base, slower)]
    assert times[WARM].difference == walls[1][1] - walls[0][1]
    assert times[WARM].outcome is Outcome.MORE
    assert (times[FIRST].difference, times[FIRST].outcome) == (walls[1][0] - walls[0][0], Outcome.UNKNOWN)
    assert times[SETUP].difference == 0
    assert times[TOTAL].outcome is Outcome.UNKNOWN
    causes = named(found.warm_causes)
    assert {name for name, row in causes.items() if row.difference} == {"link"}
    assert causes["compute"].base == 9 * KERNEL_NS
    assert (found.modules.more, found.modules.less) == (8, 0)
    assert found.modules.changed[0].name.endswith("ff.proj")
    assert found.regressions == [f"warm step: {times[WARM].difference / times[WARM].base:+.1%}"]
    assert named(found.traffic)["to the device in a warm step"].difference == pytest.approx(6_078_000, abs=200)


def test_causes_add_up_to_the_steps_difference(base: Pair, slower: Pair) -> None:
    found = compare_runs([base], [slower])
    for rows, total in ((found.warm_causes, WARM), (found.first_causes, FIRST)):
        for field in ("base", "other", "difference"):
            assert sum(getattr(row, field) for row in rows) == getattr(named(found.times)[total], field)


def test_below_the_bound_is_no_regression(base: Pair, slower: Pair) -> None:
    assert judged(compare_runs([base], [slower]), 0.30).regressions == []
    assert judged(compare_runs([slower], [base]), 0.0).regressions == []


def test_repeats_make_runs_the_samples(base: Pair, slower: Pair) -> None:
    repeats = [built(weight_bytes=size) for size in (8_000_000, 8_100_000, 7_900_000)]
    within = compare_runs(repeats, [base, built(weight_bytes=8_050_000)])
    assert within.unit is SampleUnit.RUNS
    times = named(within.times)
    assert (times[WARM].base_samples, times[WARM].other_samples) == (3, 2)
    assert {times[name].outcome for name in (WARM, FIRST, TOTAL)} == {Outcome.NOISE}
    beyond = judged(compare_runs(repeats, [slower, built(weight_bytes=10_100_000)]), 0.05)
    assert [row.partition(":")[0] for row in beyond.regressions] == [WARM, FIRST]
    assert not [text for text in beyond.warnings if "repeat both sides" in text]


def signless(comparison: Comparison) -> dict[str, Any]:
    """Everything but words, with B's figures in A's place and every sign turned."""
    plain = msgspec.to_builtins(comparison)

    def turned(row: dict[str, Any]) -> dict[str, Any]:
        low, high = row["low"], row["high"]
        return row | {
            "base": row["other"],
            "other": row["base"],
            "difference": -row["difference"],
            "low": None if high is None else -high,
            "high": None if low is None else -low,
            "base_samples": row["other_samples"],
            "other_samples": row["base_samples"],
            "outcome": {"more": "less", "less": "more"}.get(row["outcome"], row["outcome"]),
        }

    lists = ("times", "warm_causes", "first_causes", "memory", "traffic")
    modules = plain["modules"]
    return {name: [turned(row) for row in plain[name]] for name in lists} | {
        "configuration": [row | {"base": row["other"], "other": row["base"]} for row in plain["configuration"]],
        "changed": [turned(row) for row in modules["changed"]],
        "counts": (modules["compared"], modules["more"], modules["less"]),
    }


def as_it_is(comparison: Comparison) -> dict[str, Any]:
    plain = msgspec.to_builtins(comparison)
    lists = ("times", "warm_causes", "first_causes", "memory", "traffic", "configuration")
    modules = plain["modules"]
    counts = (modules["compared"], modules["less"], modules["more"])
    return {name: plain[name] for name in lists} | {"changed": modules["changed"], "counts": counts}


SIZES = st.lists(st.integers(4_000_000, 12_000_000), min_size=1, max_size=2)


@settings(max_examples=8)  # each analyses two to four runs
@given(SIZES, SIZES, st.sampled_from(["sequential", "partial"]))
def test_the_other_way_round_every_sign_turns(base: list[int], other: list[int], mode: str) -> None:
    left = [built(steps=3, blocks=1, weight_bytes=size) for size in base]
    right = [built(steps=3, blocks=1, weight_bytes=size, offload=OffloadInfo(mode=mode)) for size in other]
    assert as_it_is(compare_runs(left, right)) == signless(compare_runs(right, left))


def test_what_differs_in_the_configuration_is_named(base: Pair) -> None:
    other = built(
        offload=OffloadInfo(mode="partial", options={"resident_gib": 8.0}, host_memory="anonymous"),
        versions={"torch": "2.14.0", "diffusers": "0.42.1"},
        created="2026-01-01T00:00:00+00:00",
        process_id=7,
    )
    rows = [(row.name, row.base, row.other) for row in compare_runs([base], [other]).configuration]
    assert rows == [
        ("offload.mode", "sequential", "partial"),
        ("offload.host_memory", "as-loaded", "anonymous"),
        ("versions.torch", "2.13.0", "2.14.0"),
        ("offload.options.resident_gib", "", "8.0"),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pipeline_class": "WanPipeline"}, "the pipelines are not the same"),
        ({"call": {"height": 1024}}, "not the same work"),
        ({"steps": 4}, "numbers of steps"),
        ({"device": "emulated"}, "not a GPU's"),
        ({"complete": False, "incomplete_reason": "killed"}, "1 of 1 runs of B are incomplete"),
    ],
)
def test_unlike_runs_are_compared_with_a_warning(base: Pair, options: dict[str, Any], words: str) -> None:
    found = compare_runs([base], [built(**options)])
    assert [text for text in found.warnings if words in text]
    assert WARM in named(found.times)


@pytest.mark.parametrize(
    ("took", "words"),
    [
        ((20_000, 32_000), "slower in B: the same Python took 1.60 times"),
        ((30_000, 20_000), "slower in A: the same Python took 1.50 times"),
        ((20_000, 21_000), ""),
        ((None, 20_000), ""),
    ],
)
def test_a_host_that_was_slower_on_one_side_is_named(base: Pair, took: tuple[int | None, int], words: str) -> None:
    timeline, summary = base
    sides = []
    for python_ns in took:
        steps = [msgspec.structs.replace(step, host_python_ns=python_ns) for step in summary.steps]
        sides.append([(timeline, msgspec.structs.replace(summary, steps=steps))])
    found = [text for text in compare_runs(*sides).warnings if "the host itself" in text]
    assert len(found) == bool(words)
    assert all(words in text for text in found)


def test_repeats_that_are_none_are_warned_of(base: Pair) -> None:
    mixed = [base, built(offload=OffloadInfo(mode="model"))]
    assert "the runs of A differ among themselves in offload.mode" in compare_runs(mixed, [base]).warnings


def test_a_run_without_a_step_is_refused(base: Pair) -> None:
    span = {"span_id": 0, "kind": "run", "run_index": 0, "start_ns": START_NS, "end_ns": START_NS + 1}
    with pytest.raises(UsageError, match=r"\(B\) has no denoising step"):
        compare_runs([base], [pair(make_run({"spans": [span]}))])


def test_one_step_says_nothing_of_noise(base: Pair) -> None:
    found = judged(compare_runs([base], [built(steps=1, weight_bytes=20_000_000)]), 0.0)
    assert [row.name for row in found.times] == [FIRST, SETUP, TOTAL]
    assert found.regressions == []
    assert "run two steps or more" in found.verdict


def test_without_causes_steps_are_divided_as_far_as_they_are_known(base: Pair) -> None:
    timeline, summary = base
    found = compare_runs([base], [(timeline, msgspec.structs.replace(summary, causes=[]))])
    assert [row.name for row in found.warm_causes] == ["exposed copies", "compute", "neither copy nor kernel"]
    assert sum(row.base for row in found.warm_causes) == named(found.times)[WARM].base
    assert [text for text in found.warnings if "no causes" in text]


def test_a_module_that_stays_on_the_device_takes_no_time(base: Pair) -> None:
    timeline, summary = base
    stays = "transformer.transformer_blocks.0.ff.proj"
    kept = timeline.copies[timeline.copies["fqn"] != stays]
    other = (replace(timeline, copies=kept), summary)
    (changed,) = compare_runs([base], [other]).modules.changed
    assert (changed.name, changed.other, changed.outcome) == (stays, 0, Outcome.LESS)
