"""From one sequential run on the emulated device: every other mode's copies exactly, and its memory from above."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from expectations import PipelineFacts, expected_copies, observe, total_bytes

from tracekit.analysis.prediction.planner import configuration_of
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.residents import choose_residents, resident_names
from tracekit.api import Run
from tracekit.model import Direction
from tracekit.model.plan import Configuration, Traffic
from tracekit.offload.options import OffloadOptions
from tracekit.workload.call import CallOptions
from tracekit.workload.pipeline import build_call, find_folder, load_pipeline

STEPS = 3
MODES = {
    "resident": OffloadOptions(mode="resident"),
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "group leaf": OffloadOptions(mode="group"),
    "group block": OffloadOptions(mode="group", group_level="block_level"),
    "group block of 2": OffloadOptions(mode="group", group_level="block_level", blocks_per_group=2),
}


@pytest.fixture(scope="module")
def facts() -> PipelineFacts:
    pipeline = load_pipeline("synthetic:flux-tiny", None)
    pipeline.set_progress_bar_config(disable=True)
    folder = find_folder("synthetic:flux-tiny")

    def call(steps: int) -> object:
        return pipeline(**build_call(pipeline, folder, CallOptions(steps=steps, height=32, width=32, seed=0)))

    return observe(pipeline, call)


def together(traffic: dict[str, Traffic]) -> Traffic:
    """All of a run's copies after set-up."""
    steps = [traffic["first_step"], *[traffic["warm_step"]] * (STEPS - 1)]
    parts = [traffic["encode"], *steps, traffic["decode"]]
    return Traffic(*(sum(values) for values in zip(*(astuple(part) for part in parts), strict=True)))


def astuple(traffic: Traffic) -> tuple[int, int, int, int]:
    return traffic.h2d_copies, traffic.h2d_bytes, traffic.d2h_copies, traffic.d2h_bytes


@pytest.mark.parametrize("name", MODES)
def test_copies_and_bytes_are_those_that_the_mode_must_make(
    name: str, predictor: Predictor, facts: PipelineFacts
) -> None:
    options = MODES[name]
    configuration = configuration_of(options.manifest())
    assert configuration is not None
    predicted = predictor.predict(configuration)
    expected = expected_copies(facts, options, STEPS)
    run = together(predicted.traffic)
    assert (run.h2d_copies, run.h2d_bytes) == (expected.h2d.total(), total_bytes(expected.h2d))
    assert (run.d2h_copies, run.d2h_bytes) == (expected.d2h.total(), total_bytes(expected.d2h))
    setup = predicted.traffic["setup"]
    assert (setup.h2d_copies, setup.h2d_bytes) == (expected.setup.total(), total_bytes(expected.setup))


def test_partial_offload_copies_what_is_not_kept(predictor: Predictor, facts: PipelineFacts) -> None:
    residents = choose_residents(predictor, 64 << 20)
    assert residents is not None
    names = resident_names(predictor, residents)
    predicted = predictor.predict(Configuration(mode="partial", resident=names))
    options = OffloadOptions(mode="partial", resident_parameters=frozenset(names))
    expected = expected_copies(facts, options, STEPS, resident=frozenset(names))
    run = together(predicted.traffic)
    assert (run.h2d_copies, run.h2d_bytes) == (expected.h2d.total(), total_bytes(expected.h2d))


@pytest.mark.parametrize("name", MODES)
def test_predicted_memory_is_near_and_never_below_what_the_mode_takes(
    name: str, predictor: Predictor, real_run: Callable[[OffloadOptions], Run]
) -> None:
    configuration = configuration_of(MODES[name].manifest())
    assert configuration is not None
    measured = real_run(MODES[name]).summary().peak_allocated_bytes
    assert measured is not None
    predicted = predictor.predict(configuration).device_bytes
    assert predicted.high >= measured
    # Memory is sampled between modules on the emulated device: what a module takes while it runs is not told apart.
    assert predicted.value == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("name", [*MODES, "sequential, anonymous"])
def test_predicted_host_memory_is_never_below_what_weights_are_copied_from(
    name: str, predictor: Predictor, real_run: Callable[[OffloadOptions], Run]
) -> None:
    """Of what the copies of a run say of host memory, each place once; what copies back made is held."""
    options = MODES.get(name, OffloadOptions(mode="sequential", host_memory="anonymous"))
    configuration = configuration_of(options.manifest())
    assert configuration is not None
    run = real_run(options)
    copies = run.copies[run.copies.is_weight & (run.copies.direction == Direction.H2D)]
    places = copies.drop_duplicates(["host_memory", "host_address"])
    sizes = {str(kind): int(of.size_bytes.sum()) for kind, of in places.groupby("host_memory")}
    last = run.copies[run.copies.is_weight & (run.copies.direction == Direction.D2H)]
    returned = int(last.drop_duplicates(["fqn", "parameter"]).size_bytes.sum())
    host = predictor.predict(configuration).host_bytes
    assert host.low <= host.value <= host.high
    assert sizes.get("mmap", 0) <= host.high
    assert returned <= host.low
    if name == "sequential, anonymous":
        assert sizes["anonymous"] == pytest.approx(host.value, rel=0.01)
        assert sizes["anonymous"] <= host.low


@pytest.mark.parametrize("source", ["model", "group leaf", "resident"])
def test_a_run_in_any_mode_predicts_the_copies_of_sequential_offload(
    source: str, real_run: Callable[[OffloadOptions], Run], sequential: Run
) -> None:
    predicted = Predictor(real_run(MODES[source]).timeline)
    # Only the emulated device's calibration lets a resident run tell what copies take: the copies themselves are known.
    mode = predicted.offloader(Configuration(mode="sequential"), predicted.weights, predicted.costs())
    enters = [event.fqn for event in predicted.warm[0].events if event.op == "enter"]
    counted = sum(len([w for w in predicted.weights.owned(fqn) if w.streams]) for fqn in enters)
    copies = sequential.copies
    last = copies[(copies.step_index == STEPS - 1) & copies.is_weight & (copies.direction == Direction.H2D)]
    assert counted == len(last)
    assert mode.device_bytes == 0
