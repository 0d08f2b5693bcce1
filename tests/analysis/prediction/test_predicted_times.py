"""Predicted times: against runs built with known costs, and rules that hold for any run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import KERNEL_NS, MS, US, build_run, make_frame, make_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracekit.analysis import build_timeline
from tracekit.analysis.prediction.planner import make_plan
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.rates import UnknownCost
from tracekit.analysis.prediction.residents import choose_residents
from tracekit.analysis.prediction.slowdown import How
from tracekit.analysis.prediction.tape import Op, middle_third
from tracekit.errors import UsageError
from tracekit.model import CALIBRATION, SPANS, TABLES, MachineInfo, Measure, OffloadInfo, RunData, SpanKind, Timeline
from tracekit.model.plan import Configuration, Estimate
from tracekit.model.text import concat_rows

PINNED_BYTES_PER_US = 50_000
FRESH_BYTES_PER_US = 1_000
PIN_BYTES_PER_US = 2_000
CLONE_BYTES_PER_US = 4_000
COPY_BYTES_PER_US = 10_000
IDLE_NS = 7 * US
SLOWER = 2
"""How many times as long host work takes after copies of `SIZES`."""
FEW = 4096
SIZES = (1 << 16, 1 << 20, 1 << 24, 1 << 26)
RATES = {
    Measure.PINNED_H2D: PINNED_BYTES_PER_US,
    Measure.PAGEABLE_H2D: 8_000,
    Measure.FRESH_D2H: FRESH_BYTES_PER_US,
    Measure.PIN: PIN_BYTES_PER_US,
    Measure.CLONE: CLONE_BYTES_PER_US,
    Measure.HOST_COPY: COPY_BYTES_PER_US,
}


def calibrated(run: RunData, *, slower: int = 1, alone: float = 1) -> RunData:
    rows = [
        {"measure": str(measure), "size_bytes": size, "duration_ns": size * US // rate}
        for measure, rate in RATES.items()
        for size in SIZES
    ]
    rows += [
        {"measure": str(measure), "size_bytes": size, "duration_ns": 100 * US * (slower if size > FEW else 1)}
        for measure in (Measure.HOOK_WORK, Measure.OWN_CODE, Measure.CODE_BETWEEN)
        for size in (FEW, *SIZES)
    ]
    rows += [
        {"measure": str(measure), "size_bytes": 0, "duration_ns": round(took)}
        for measure, took in (
            (Measure.OWN_CODE_AMONG_HOOKS, 50 * US),
            (Measure.CODE_BETWEEN_AMONG_HOOKS, 50 * US),
            (Measure.OWN_CODE_ALONE, 50 * US * alone),
            (Measure.CODE_BETWEEN_ALONE, 50 * US * alone),
            (Measure.IDLE_HOOK, IDLE_NS),
        )
    ]
    return replace(run, calibration=make_frame(CALIBRATION, rows))


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return build_timeline(calibrated(build_run(steps=4, blocks=6, weight_bytes=8 << 20)))


@pytest.fixture(scope="module")
def predictor(timeline: Timeline) -> Predictor:
    return Predictor(timeline)


def wall_ns(timeline: Timeline, step: int) -> int:
    row = timeline.steps[timeline.steps["step_index"] == step].iloc[0]
    return int(row["end_ns"] - row["start_ns"])


def test_the_runs_own_configuration_comes_out_as_it_was_measured(predictor: Predictor, timeline: Timeline) -> None:
    predicted = predictor.predict(Configuration(mode="sequential"))
    assert predicted.warm_step_ns.value == pytest.approx(wall_ns(timeline, 1), rel=0.02)
    assert predicted.first_step_ns.value == pytest.approx(wall_ns(timeline, 0), rel=0.02)
    assert predicted.setup_ns.value == 1_200 * MS


def with_samples(run: RunData, samples: Iterable[dict[str, object]]) -> RunData:
    """The run with further samples in its calibration."""
    return replace(run, calibration=concat_rows([run.calibration, make_frame(CALIBRATION, samples)]))


def retimed(run: RunData, later: Callable[[pd.Series[int]], Any]) -> RunData:
    """The run with every moment as much later as `later` says of it, ns."""
    frames = {}
    for name in TABLES:
        frame = getattr(run, name).copy()
        for column in {"start_ns", "end_ns", "t_ns"} & set(frame.columns):
            frame[column] += later(frame[column])
        frames[name] = frame
    return replace(run, **frames)


def delayed(run: RunData, at: int, by_ns: int) -> RunData:
    """The run with all that comes after a moment as much later."""
    return retimed(run, lambda moments: np.where(moments > at, by_ns, 0))


def paused(run: RunData, step: int, took_ns: int) -> RunData:
    """The run with a garbage collection at the end of an onload in a step."""
    onload = build_timeline(run).spans.query("kind == 'onload' and step_index == @step").iloc[3]
    at = int(onload["end_ns"]) - 1
    later = delayed(run, at, took_ns)
    spans = later.spans
    row = {"span_id": int(spans["span_id"].max()) + 1, "parent_id": onload["span_id"], "kind": str(SpanKind.GARBAGE)}
    row |= {"run_index": 0, "thread_id": onload["thread_id"], "start_ns": at, "end_ns": at + took_ns}
    return replace(later, spans=concat_rows([spans, make_frame(SPANS, [row])]))


def stretched(run: RunData, step: int, factor: int) -> RunData:
    """The run with everything in one step taking so many times as long, and all that comes after as much later."""
    row = build_timeline(run).steps.query("step_index == @step").iloc[0]
    start, end = int(row["start_ns"]), int(row["end_ns"])
    return retimed(run, lambda moments: (factor - 1) * np.clip(moments - start, 0, end - start))


def test_a_disturbed_step_is_in_no_prediction_but_in_its_range(timeline: Timeline) -> None:
    disturbed = build_timeline(stretched(timeline.run, 2, 3))
    assert wall_ns(disturbed, 2) == 3 * wall_ns(timeline, 2)
    for mode in ("sequential", "resident", "group"):
        plain, other = (Predictor(each).predict(Configuration(mode=mode)) for each in (timeline, disturbed))
        assert other.warm_step_ns.value == pytest.approx(plain.warm_step_ns.value, rel=0.001)
        assert other.first_step_ns.value == pytest.approx(plain.first_step_ns.value, rel=0.001)
    predictor = Predictor(disturbed)
    own = predictor.predict(Configuration(mode="sequential")).warm_step_ns
    # Kernels take what they take: their times have no range.
    assert own.high == pytest.approx(wall_ns(disturbed, 2) - 2 * predictor.compute_ns, rel=0.02)


def test_a_difference_is_of_one_machine_as_fast_or_as_slow_for_both() -> None:
    sooner, later = Estimate(100, 80, 130), Estimate(60, 50, 75)
    assert sooner.less(later) == Estimate(40, 30, 55)
    assert later.less(sooner) == Estimate(-40, -55, -30)
    assert sooner.less(sooner) == Estimate(0, 0, 0)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12))
def test_the_middle_third_is_round_the_median_and_no_less_than_a_third(walls: list[int]) -> None:
    places = middle_third(walls)
    chosen = [walls[place] for place in places]
    assert len(set(places)) == len(places) >= len(walls) / 3
    assert median(chosen) == median(walls)
    left = sorted(set(range(len(walls))) - set(places), key=walls.__getitem__)
    assert len(left) % 2 == 0
    assert all(walls[place] <= min(chosen) for place in left[: len(left) // 2])
    assert all(walls[place] >= max(chosen) for place in left[len(left) // 2 :])


def test_a_range_holds_the_speeds_that_the_calibration_found_the_machine_at() -> None:
    run = calibrated(build_run(device="emulated", steps=4, blocks=6, weight_bytes=8 << 20))
    fast, slow = (
        {"measure": str(Measure.CODE_BETWEEN_ALONE), "size_bytes": 0, "duration_ns": took * US} for took in (30, 65)
    )
    varied = with_samples(run, [fast, slow])
    predictor = Predictor(build_timeline(varied))
    own, apart = own_and_apart(predictor)
    warm = predictor.predict(Configuration(mode="resident")).warm_step_ns
    assert warm.value - warm.low == pytest.approx(0.4 * (own + apart), rel=0.02)
    assert warm.high - warm.value == pytest.approx(0.3 * (own + apart), rel=0.02)
    setup = predictor.predict(Configuration(mode="sequential")).setup_ns
    assert (setup.low, setup.high) == (0.6 * setup.value, 1.3 * setup.value)


def test_what_is_cold_in_the_first_step_goes_as_fast_or_as_slow_as_what_is_warm(timeline: Timeline) -> None:
    samples = [
        {"measure": str(Measure.PAGEABLE_H2D), "size_bytes": size, "duration_ns": size * US // rate}
        for size in SIZES
        for rate in (2 * RATES[Measure.PAGEABLE_H2D], RATES[Measure.PAGEABLE_H2D] // 2)
    ]
    varied = Predictor(build_timeline(with_samples(timeline.run, samples)))
    copies = timeline.copies.query("step_index == 0 and is_weight")
    copied = float((copies["end_ns"] - copies["start_ns"]).sum())
    first = varied.predict(Configuration(mode="sequential")).first_step_ns
    assert first.value - first.low == pytest.approx(copied / 2, rel=0.02)
    assert first.high - first.value == pytest.approx(copied, rel=0.02)


def test_a_first_steps_host_code_is_in_its_range_as_a_warm_steps_is() -> None:
    run = calibrated(build_run(steps=4, blocks=6, weight_bytes=8 << 20))
    # The first time step is copied just before the first step: without these all steps are alike.
    weights, ops = run.copies[run.copies["fqn"] != ""], run.device_ops
    run = replace(run, copies=weights, device_ops=ops[(ops["op"] == "kernel") | (ops["size_bytes"] > 8)])
    fast, slow = (
        {"measure": str(Measure.CODE_BETWEEN_ALONE), "size_bytes": 0, "duration_ns": took * US} for took in (25, 100)
    )
    varied = with_samples(run, [fast, slow])
    once_ns = 600 * MS
    last = build_timeline(run).spans.query("kind == 'forward' and step_index == 0")["start_ns"].max()
    predictor = Predictor(build_timeline(delayed(varied, int(last), once_ns)))
    predicted = predictor.predict(Configuration(mode="resident"))
    first, warm = predicted.first_step_ns, predicted.warm_step_ns
    assert first.value - warm.value == pytest.approx(once_ns, rel=0.01)
    assert (first.value - first.low) - (warm.value - warm.low) == pytest.approx(once_ns / 2, rel=0.01)
    assert (first.high - first.value) - (warm.high - warm.value) == pytest.approx(once_ns, rel=0.01)


@pytest.mark.parametrize("mode", ["sequential", "resident", "model"])
def test_a_garbage_collection_is_a_pause_of_its_step_in_any_mode_and_no_cost_of_a_hook(mode: str) -> None:
    run = calibrated(build_run(steps=4, blocks=6, weight_bytes=8 << 20), slower=SLOWER)
    own = Configuration(mode=mode)
    took = 300 * MS
    every = paused(paused(paused(run, 1, took), 2, took), 3, took)
    plain, first, one, later = (
        Predictor(build_timeline(each)).predict(own)
        for each in (run, paused(run, 0, took), paused(run, 2, took), every)
    )
    # Kernels that were still running hide the pause's first microseconds.
    assert first.first_step_ns.value - plain.first_step_ns.value == pytest.approx(took, rel=0.001)
    assert first.warm_step_ns == plain.warm_step_ns
    assert one.warm_step_ns.value == pytest.approx(plain.warm_step_ns.value, rel=0.001)  # two others stand for it
    assert later.warm_step_ns.value - plain.warm_step_ns.value == pytest.approx(took, rel=0.001)
    assert later.first_step_ns.value == pytest.approx(plain.first_step_ns.value, rel=0.001)
    # Unscaled: the interval is no wider by it.
    spread = plain.warm_step_ns.high - plain.warm_step_ns.low
    assert later.warm_step_ns.high - later.warm_step_ns.low == pytest.approx(spread, abs=0.001 * took)


@pytest.mark.parametrize(
    "configuration",
    [
        Configuration(mode="sequential"),
        Configuration(mode="sequential", host_memory="pinned"),
        Configuration(mode="model"),
        Configuration(mode="resident"),
        Configuration(mode="group", stream=True),
    ],
    ids=lambda configuration: configuration.name,
)
@given(first=st.floats(0.5, 4), second=st.floats(0.5, 4))
@settings(max_examples=10, deadline=None)
def test_a_slower_host_never_predicts_less_time_and_copies_and_kernels_stay_what_they_are(
    configuration: Configuration, first: float, second: float, predictor: Predictor
) -> None:
    low, high = sorted((first, second))
    fast, slow = (predictor.predict(configuration, host=host) for host in (low, high))
    for faster, slower in ((fast.warm_step_ns, slow.warm_step_ns), (fast.first_step_ns, slow.first_step_ns)):
        assert faster.low <= slower.low + 1
        assert faster.value <= slower.value + 1
        assert faster.high <= slower.high + 1
        assert slower.value <= high / low * faster.value + 1
    assert (slow.device_bytes, slow.traffic) == (fast.device_bytes, fast.traffic)


def test_on_a_host_half_as_fast_host_code_takes_twice_as_long_and_nothing_else_does(predictor: Predictor) -> None:
    usual, slow = (predictor.predict(Configuration(mode="sequential"), host=host) for host in (1.0, 2.0))
    copies = sum(took for memory in predictor.evidence.copies.warm.values() for took in memory.values())
    host_ns = usual.warm_step_ns.value - copies
    assert 0 < host_ns < usual.warm_step_ns.value
    # Kernels may hide some of it.
    assert usual.warm_step_ns.value < slow.warm_step_ns.value <= usual.warm_step_ns.value + host_ns + 1


def test_a_resident_step_is_what_is_left_without_copies(predictor: Predictor, timeline: Timeline) -> None:
    warm = predictor.predict(Configuration(mode="resident")).warm_step_ns.value
    in_step = timeline.spans[(timeline.spans["step_index"] == 1) & (timeline.spans["kind"] == "forward")]
    kernels = 1 + 4 * 6
    assert kernels * KERNEL_NS <= warm <= int(in_step["own_ns"].sum()) + kernels * KERNEL_NS + 20 * US


def test_moving_a_whole_component_takes_the_host_what_each_weight_adds_to_a_hook(timeline: Timeline) -> None:
    plain, dearer = Predictor(timeline), Predictor(timeline)
    dearer.evidence.hooks.tensor_ns += MS
    weights = len({weight.key for weight in plain.weights.all})
    resident, model = (
        [predictor.predict(Configuration(mode=mode)) for predictor in (plain, dearer)] for mode in ("resident", "model")
    )
    assert resident[1].setup_ns.value - resident[0].setup_ns.value == pytest.approx(weights * MS, rel=0.01)
    denoiser = len(plain.weights.components["transformer"])
    assert model[1].first_step_ns.value - model[0].first_step_ns.value >= 0.99 * denoiser * MS
    assert model[1].warm_step_ns == model[0].warm_step_ns


def test_pinned_copies_take_the_calibrated_time_in_place_of_the_measured(predictor: Predictor) -> None:
    as_loaded, pinned = (
        predictor.predict(Configuration(mode="sequential", host_memory=memory)) for memory in ("as-loaded", "pinned")
    )
    moved = as_loaded.traffic["warm_step"].h2d_bytes
    saved = as_loaded.warm_step_ns.value - pinned.warm_step_ns.value
    assert saved == pytest.approx(moved * US * (1 / 8_000 - 1 / PINNED_BYTES_PER_US), rel=0.05)
    extra = pinned.setup_ns.value - as_loaded.setup_ns.value
    weights = predictor.weights.total_bytes
    touched_first = as_loaded.first_step_ns.value - as_loaded.warm_step_ns.value
    assert extra > weights * US * (1 / PIN_BYTES_PER_US + 1 / COPY_BYTES_PER_US) + 0.9 * touched_first
    assert pinned.locked_bytes == weights


@pytest.mark.parametrize("from_disk", [True, False])
def test_a_set_up_that_copies_on_the_host_maps_pages_and_reads_what_was_read(*, from_disk: bool) -> None:
    """What the driver took to copy from pages that were in memory, but not mapped, is not paid without the driver."""
    rate = 100_000
    run = calibrated(build_run(steps=4, blocks=6, weight_bytes=8 << 20))
    if not from_disk:
        run = replace(run, host_samples=run.host_samples.assign(resident_before=1.0, read_bytes=0))
    mapping = {"measure": str(Measure.MAP_PAGES), "size_bytes": SIZES[0], "duration_ns": SIZES[0] * US // rate}
    predictor = Predictor(build_timeline(with_samples(run, [mapping])))
    as_loaded, cloned = (
        predictor.predict(Configuration(mode="sequential", host_memory=memory)) for memory in ("as-loaded", "anonymous")
    )
    size = predictor.weights.total_bytes
    touch = cloned.setup_ns.value - as_loaded.setup_ns.value - size * US / CLONE_BYTES_PER_US
    if from_disk:
        # Text encoder and VAE are touched first in other stretches than step 1.
        assert touch > 0.9 * (as_loaded.first_step_ns.value - as_loaded.warm_step_ns.value) > 2 * size * US / rate
    else:
        assert touch == pytest.approx(size * US / rate, rel=0.01)


def test_host_work_is_slower_where_the_host_stages_copies_and_the_way_back_is_the_same() -> None:
    run = build_run(steps=4, blocks=6, weight_bytes=8 << 20)
    even, slowed = (Predictor(build_timeline(calibrated(run, slower=slower))) for slower in (1, SLOWER))
    own = Configuration(mode="sequential")
    for level in ("value", "low", "high"):  # whatever staging does, it did in the run itself
        steps = [getattr(each.predict(own).warm_step_ns, level) for each in (even, slowed)]
        assert steps[0] == steps[1]
    pinned = Configuration(mode="sequential", host_memory="pinned")
    saved = even.predict(pinned).warm_step_ns.value - slowed.predict(pinned).warm_step_ns.value
    host = sum(event.host_ns for event in even.warm[0].events if event.op is Op.WORK and event.in_owner)
    hooks = even.evidence.hooks
    host += sum(
        took for kind in (hooks.onload, hooks.offload) for fqn, took in kind.items() if fqn.startswith("transformer.")
    )
    host += even.costs().call_ns * even.predict(pinned).traffic["warm_step"].h2d_copies
    # Every module was staged at; the work near its copies takes half as long without, and kernels hide some of that.
    most = host * (1 - 1 / SLOWER)
    assert 0.4 * most < saved <= most


def test_kernels_that_the_host_computes_hide_nothing_and_take_its_caches_over_in_any_mode() -> None:
    run = build_run(device="emulated", steps=4, blocks=6, weight_bytes=8 << 20)
    resident = Configuration(mode="resident")
    for slower, alone in ((1, 1), (10, 0.4)):
        predictor = Predictor(build_timeline(calibrated(run, slower=slower, alone=alone)))
        own, apart = own_and_apart(predictor)
        assert own > 0
        assert predictor.compute_ns == pytest.approx((1 + 4 * 6) * KERNEL_NS)
        warm = predictor.predict(resident).warm_step_ns.value
        assert warm == pytest.approx(own + apart + predictor.compute_ns, rel=0.01)


def own_and_apart(predictor: Predictor) -> tuple[float, float]:
    """Host time of a warm step's own forwards of modules that have weights, and of the code apart from them."""
    own, apart = (
        sum(event.host_ns for event in predictor.warm[0].events if event.op is Op.WORK and event.in_owner is in_owner)
        for in_owner in (True, False)
    )
    return own, apart


@pytest.mark.parametrize(
    ("configuration", "hooks", "code"),
    [
        (Configuration(mode="resident"), 0.5, 0.4 / 2),
        (Configuration(mode="model"), 0.5, 0.4 / 2),
        (Configuration(mode="sequential"), 1, 1),
        (Configuration(mode="sequential", host_memory="anonymous"), 1, 1),
        (Configuration(mode="sequential", host_memory="pinned"), 0.5, 0.5),
        (Configuration(mode="group", stream=True), 0.5, 0.5),
        (Configuration(mode="group", group_level="block_level", stream=True), 0.5, 0.4 / 2),
    ],
)
def test_a_modules_own_code_is_faster_without_copies_and_faster_again_where_no_hook_is(
    configuration: Configuration, hooks: float, code: float
) -> None:
    predictor = Predictor(build_timeline(calibrated(build_run(steps=4), slower=2, alone=0.4)))
    scales = predictor.offloader(configuration, predictor.weights, predictor.costs()).scales
    assert scales.hooks == pytest.approx(hooks)
    assert scales.own == pytest.approx(code)


@pytest.mark.parametrize("waited", [1.0, 1.5])
def test_the_way_between_pageable_and_page_locked_is_that_of_what_either_leaves_behind(waited: float) -> None:
    """From a run with pageable copies to page-locked ones, and back from one with page-locked copies."""
    for own, other in (("as-loaded", "pinned"), ("pinned", "as-loaded")):
        run = calibrated(build_run(steps=4), slower=2)
        if own == "pinned":
            run = replace(run, copies=run.copies.assign(host_memory="pinned"))
        rows = [
            {"measure": str(measure), "size_bytes": size, "duration_ns": round(100 * US * waited)}
            for measure in (Measure.WAITED_HOOK_WORK, Measure.WAITED_OWN_CODE, Measure.WAITED_CODE_BETWEEN)
            for size in SIZES
        ]
        predictor = Predictor(build_timeline(with_samples(run, rows)))
        scales = [
            predictor.offloader(
                Configuration(mode="sequential", host_memory=memory), predictor.weights, predictor.costs()
            ).scales
            for memory in (own, other)
        ]
        assert scales[0].hooks == pytest.approx(1)
        assert scales[1] == pytest.approx([waited / 2 if other == "pinned" else 2 / waited] * 3)


def test_code_that_is_faster_makes_a_step_shorter() -> None:
    run = build_run(steps=4)
    brief = run.device_ops.copy()
    brief.loc[brief["op"] == "kernel", "end_ns"] = brief["start_ns"] + 1  # so that they hide nothing
    run = replace(run, device_ops=brief)
    even, faster = (Predictor(build_timeline(calibrated(run, alone=alone))) for alone in (1, 0.4))
    for mode in ("resident", "model"):
        steps = [each.predict(Configuration(mode=mode)).warm_step_ns.value for each in (even, faster)]
        assert steps[0] - steps[1] == pytest.approx(0.6 * sum(own_and_apart(even)), rel=0.01)


def test_of_a_module_whose_weights_stay_only_an_idle_hook_is_left() -> None:
    predictor = Predictor(build_timeline(calibrated(build_run(device="emulated", steps=4, blocks=6))))
    names = {f"{w.fqn}.{w.name}" for w in predictor.weights.all if w.component == "transformer" and not w.is_buffer}
    kept = predictor.predict(Configuration(mode="partial", resident=tuple(sorted(names))))
    resident = predictor.predict(Configuration(mode="resident"))
    modules = len({w.fqn for w in predictor.weights.all if w.component == "transformer"})
    streamed = predictor.predict(Configuration(mode="sequential")).warm_step_ns.value
    chosen = choose_residents(predictor, vram_bytes=1 << 40)
    assert chosen is not None
    assert streamed - kept.warm_step_ns.value == pytest.approx(chosen.saved_ns, rel=0.02)
    assert kept.warm_step_ns.value - resident.warm_step_ns.value == pytest.approx(modules * IDLE_NS, rel=0.02)


@pytest.mark.parametrize("word", ["staging", "hooks do"])
def test_what_staging_and_hooks_do_to_the_host_is_named_where_it_is_unknown(word: str) -> None:
    run = build_run(steps=2)
    noted = Predictor(build_timeline(run)).predict(Configuration(mode="resident"))
    assert any(word in note for note in noted.notes)
    told = Predictor(build_timeline(calibrated(run))).predict(Configuration(mode="resident"))
    assert not any(word in note for note in told.notes)


def test_group_offload_without_a_stream_pays_for_the_way_back(predictor: Predictor) -> None:
    group = predictor.predict(Configuration(mode="group"))
    back = group.traffic["warm_step"].d2h_bytes
    assert back == group.traffic["warm_step"].h2d_bytes
    assert group.warm_step_ns.value > back * US / FRESH_BYTES_PER_US


def test_what_glibc_keeps_of_freed_memory_is_not_fresh_the_next_time(timeline: Timeline) -> None:
    """All weights but the largest size: its blocks are mapped anew each time."""
    group = Configuration(mode="group")
    weights = Predictor(timeline).weights
    in_loop = [weight.size_bytes for weight in weights.all if weight.component == "transformer"]
    largest = max(weight.size_bytes for weight in weights.all)
    smaller = sum(size for size in in_loop if size < largest)
    assert 0 < smaller < sum(in_loop)
    recycling = {"measure": str(Measure.PAGEABLE_D2H), "size_bytes": SIZES[0]}
    recycling |= {"duration_ns": SIZES[0] * US // COPY_BYTES_PER_US}
    known = Predictor(build_timeline(with_samples(timeline.run, [recycling]))).predict(group)
    fresh = Predictor(timeline).predict(group)
    saved = smaller * US * (1 / FRESH_BYTES_PER_US - 1 / COPY_BYTES_PER_US)
    assert fresh.warm_step_ns.value - known.warm_step_ns.value == pytest.approx(saved, rel=0.01)
    assert known.warm_step_ns.high == fresh.warm_step_ns.high  # or the kernel has it back
    assert known.first_step_ns.value == fresh.first_step_ns.value


def test_memory_that_goes_back_to_the_kernel_takes_time_when_its_weight_moves_again(timeline: Timeline) -> None:
    group = Configuration(mode="group")
    weights = Predictor(timeline).weights
    largest = max(weight.size_bytes for weight in weights.all)
    freed = sum(w.size_bytes for w in weights.all if w.component == "transformer" and w.size_bytes == largest)
    rate = 40_000
    giving_back = {"measure": str(Measure.UNMAP), "size_bytes": SIZES[0], "duration_ns": SIZES[0] * US // rate}
    known = Predictor(build_timeline(with_samples(timeline.run, [giving_back]))).predict(group)
    unknown = Predictor(timeline).predict(group)
    assert known.warm_step_ns.value - unknown.warm_step_ns.value == pytest.approx(freed * US / rate, rel=0.01)
    assert known.first_step_ns.value == unknown.first_step_ns.value  # nothing was copied back before


def test_a_stream_hides_what_it_can_and_no_more(predictor: Predictor) -> None:
    warm = predictor.predict(Configuration(mode="group", stream=True)).warm_step_ns
    link = (
        predictor.predict(Configuration(mode="group", stream=True)).traffic["warm_step"].h2d_bytes / PINNED_BYTES_PER_US
    )
    in_order = predictor.predict(Configuration(mode="sequential", host_memory="pinned")).warm_step_ns
    assert link * US <= warm.value <= in_order.value


def group_hooks(onload_us: int, weight_us: int, call_us: int) -> list[dict[str, object]]:
    times = {Measure.GROUP_ONLOAD: onload_us, Measure.GROUP_WEIGHT: weight_us, Measure.GROUP_CALL: call_us}
    return [{"measure": str(measure), "size_bytes": 0, "duration_ns": us * US} for measure, us in times.items()]


@pytest.mark.parametrize("slower", [1, 2])
def test_a_groups_hooks_take_what_was_calibrated_without_copies_that_the_host_makes(slower: int) -> None:
    """With a stream nothing is staged: however slow the run's own hooks were between its copies."""
    group = Configuration(mode="group", stream=True)
    costs = []
    for hooks in ((), (100, 30, 50), (200, 60, 90)):
        run = calibrated(build_run(steps=4, blocks=6, weight_bytes=4096), slower=slower)
        predictor = Predictor(build_timeline(with_samples(run, group_hooks(*hooks)) if hooks else run))
        mode = predictor.offloader(group, predictor.weights, predictor.costs())
        made = [mode.costs.group_onload_host("any"), mode.costs.ahead_call_ns, mode.costs.group_offload_host("any")]
        costs.append(([ns * mode.scales.hooks for ns in made], predictor.predict(group).warm_step_ns.value))
    (_, unknown), (fast, sooner), (slow, later) = costs
    assert fast == pytest.approx([70 * US, 30 * US, 50 * US])
    assert slow == pytest.approx([140 * US, 60 * US, 90 * US])
    # Weights so small are no work for the link: the host decides.
    weights = [weight for weight in predictor.weights.all if weight.component == "transformer"]
    groups = len({weight.fqn for weight in weights})
    assert later - sooner == pytest.approx((groups * (70 + 40) + len(weights) * 30) * US, rel=0.05)
    assert unknown != sooner


def test_no_steps_cost_set_up_encode_and_decode(predictor: Predictor) -> None:
    predicted = predictor.predict(Configuration(mode="sequential"))
    none = predicted.total_ns(0)
    assert none == predicted.setup_ns + predicted.encode_ns + predicted.decode_ns
    assert predicted.total_ns(1).value - none.value == predicted.first_step_ns.value
    assert predicted.total_ns(3).value - predicted.total_ns(2).value == predicted.warm_step_ns.value


@given(data=st.data())
@settings(max_examples=25)
def test_more_resident_bytes_never_predict_more_warm_time(data: st.DataObject, predictor: Predictor) -> None:
    names = sorted(f"{w.fqn}.{w.name}" for w in predictor.weights.all if w.component == "transformer")
    more = data.draw(st.sets(st.sampled_from(names), min_size=1))
    fewer = data.draw(st.sets(st.sampled_from(sorted(more))))
    large, small = (
        predictor.predict(Configuration(mode="partial", resident=tuple(sorted(kept)))) for kept in (more, fewer)
    )
    assert large.warm_step_ns.value <= small.warm_step_ns.value
    assert large.traffic["warm_step"].h2d_bytes <= small.traffic["warm_step"].h2d_bytes
    assert large.device_bytes.value >= small.device_bytes.value


@given(vram=st.integers(1 << 20, 1 << 30), ram=st.integers(1 << 20, 1 << 30))
@settings(max_examples=15)
def test_a_plan_never_recommends_what_does_not_fit(timeline: Timeline, vram: int, ram: int) -> None:
    plan = make_plan(timeline, vram_bytes=vram, ram_bytes=ram, steps=(1, 28))
    rows = {row.configuration.name: row for row in plan.rows}
    for steps, name in plan.best.items():
        best = rows[name]
        assert best.prediction is not None
        assert best.prediction.device_bytes.high <= vram
        assert best.prediction.host_bytes.low <= ram
        assert all(row.totals[steps].value >= best.totals[steps].value for row in rows.values() if row.fits)
    for row in plan.rows:
        if row.prediction is not None and row.prediction.device_bytes.high > vram:
            assert row.missing_device_bytes == row.prediction.device_bytes.high - vram


def test_with_less_memory_than_weights_every_step_pays_for_the_disk(predictor: Predictor) -> None:
    enough = predictor.predict(Configuration(mode="sequential"))
    short = predictor.predict(Configuration(mode="sequential"), ram_bytes=predictor.weights.total_bytes - 1)
    excess = enough.first_step_ns.value - enough.warm_step_ns.value
    assert short.warm_step_ns.value - enough.warm_step_ns.value == pytest.approx(excess, rel=0.05)


def test_without_a_calibration_what_was_not_seen_is_not_predicted() -> None:
    predictor = Predictor(build_timeline(build_run(steps=2)))
    for memory, measure in (("anonymous", "clone"), ("pinned", "pin")):
        with pytest.raises(UnknownCost, match=f"{measure} was not measured"):
            predictor.predict(Configuration(mode="sequential", host_memory=memory))
    plan = make_plan(predictor.timeline, vram_bytes=1 << 30)
    assert any(row.prediction is None and "pinned" in row.configuration.name for row in plan.rows)
    assert plan.best


def test_runs_without_device_records_or_steps_are_refused_in_one_line() -> None:
    run = build_run(steps=2)
    with pytest.raises(UsageError, match="no device records"):
        Predictor(build_timeline(replace(run, manifest=make_manifest(activity="none"))))
    empty = replace(run, spans=run.spans.iloc[:0], copies=run.copies.iloc[:0])
    with pytest.raises(UsageError, match="no denoising step"):
        Predictor(build_timeline(empty))


def test_break_even_is_where_the_totals_cross(timeline: Timeline) -> None:
    plan = make_plan(timeline, vram_bytes=1 << 30, ram_bytes=1 << 40)
    rows = {row.configuration.name: row.prediction for row in plan.rows}
    assert plan.break_even
    for each in plan.break_even:
        sooner, later = rows[each.sooner], rows[each.later]
        assert sooner is not None
        assert later is not None
        assert each.steps is not None
        assert later.total_ns(each.steps).value <= sooner.total_ns(each.steps).value
        if each.steps > 1:
            assert later.total_ns(each.steps - 1).value > sooner.total_ns(each.steps - 1).value


def test_host_memory_of_the_machine_is_the_default_limit(timeline: Timeline) -> None:
    manifest = timeline.run.manifest
    assert make_plan(timeline).ram_bytes == manifest.machine.ram_bytes == MachineInfo(ram_bytes=128 * 2**30).ram_bytes


def test_from_a_run_that_kept_weights_its_own_mode_is_as_fast_as_it_was() -> None:
    """Its hooks found what it kept in place: that is not as fast as without hooks."""
    run = calibrated(build_run(steps=4, offload=OffloadInfo(mode="partial")), slower=2, alone=0.4)
    weights = Predictor(build_timeline(run)).weights
    kept = sorted({each.fqn for each in weights.all if each.fqn.startswith("transformer.") and not each.is_buffer})[::2]
    names = tuple(sorted(f"{weight.fqn}.{weight.name}" for fqn in kept for weight in weights.owned(fqn)))
    copies, spans = run.copies, run.spans
    hooks = spans["kind"].isin([SpanKind.ONLOAD, SpanKind.OFFLOAD]) & spans["fqn"].isin(kept)
    run = replace(run, copies=copies[~copies["fqn"].isin(kept)], spans=spans[~hooks])
    idle = [
        {"measure": str(measure), "size_bytes": 0, "duration_ns": 30 * US}
        for measure in (Measure.OWN_CODE_IDLE_HOOKS, Measure.CODE_BETWEEN_IDLE_HOOKS)
    ]
    predictor = Predictor(build_timeline(with_samples(run, idle)))
    mode = predictor.offloader(Configuration(mode="partial", resident=names), predictor.weights, predictor.costs())
    assert mode.scales == pytest.approx([1, 1, 1])
    resident = predictor.offloader(Configuration(mode="resident"), predictor.weights, predictor.costs())
    share = len(kept) / len(predictor.evidence.owners)
    assert resident.scales.own == pytest.approx(0.4 / (0.6 * share + 2 * (1 - share)))


@pytest.mark.parametrize(
    ("memory", "non_blocking", "low_cpu_mem", "how"),
    [
        ("mmap", False, False, How.STAGED),
        ("pinned", False, False, How.WAITED),
        ("pinned", True, False, How.STREAMED),
        ("pinned", True, True, How.STAGED),  # the host copies each weight into that memory first
    ],
)
def test_what_a_runs_copies_were_to_its_host(memory: str, non_blocking: bool, low_cpu_mem: bool, how: How) -> None:
    run = build_run(steps=4, offload=OffloadInfo(mode="group", options={"low_cpu_mem": low_cpu_mem}))
    copies = run.copies.assign(host_memory=memory, non_blocking=non_blocking)
    moved = Predictor(build_timeline(replace(run, copies=copies))).evidence.moved
    assert {each.how for each in moved if each is not None} == {how}
