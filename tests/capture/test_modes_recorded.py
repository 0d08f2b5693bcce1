"""In every mode: the copies recorded are those the device counted and those the mode must make, each with its name."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from expectations import expected_copies, observe

from tracekit.analysis import build_timeline
from tracekit.model import NONE, RunData
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.offload.residency import resident_parameters

from .conftest import DEVICE, call, make

STEPS = 2
OPTIONS = {
    "resident": OffloadOptions(mode="resident"),
    "model": OffloadOptions(mode="model"),
    "sequential": OffloadOptions(mode="sequential"),
    "sequential-anonymous": OffloadOptions(mode="sequential", host_memory="anonymous"),
    "partial": OffloadOptions(mode="partial", resident_bytes=8_000_000),
    "group-leaf": OffloadOptions(mode="group"),
    "group-block": OffloadOptions(mode="group", group_level="block_level", blocks_per_group=2),
}
PIPELINES = ("flux-tiny", "sdxl-tiny", "sd3-tiny", "wan-tiny")
# Every mode on one pipeline, every pipeline in two modes that touch different hooks.
CASES = [("flux-tiny", mode) for mode in OPTIONS] + [
    (name, mode) for name in PIPELINES[1:] for mode in ("sequential", "model")
]


@pytest.fixture(scope="module")
def plain_outputs(emulated) -> Any:
    """What a pipeline makes in a mode without tracekit, on the same device."""
    known: dict[tuple[str, str], torch.Tensor] = {}

    def output(name: str, mode: str) -> torch.Tensor:
        if (name, mode) not in known:
            pipeline = make(name)
            _apply(pipeline, OPTIONS[mode])
            known[name, mode] = call(pipeline, name, STEPS)
        return known[name, mode]

    return output


def _apply(pipeline: Any, options: OffloadOptions, setup: Any = None) -> None:
    apply_offload(pipeline, options, DEVICE, setup or (lambda _: nullcontext()))


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_a_mode_is_recorded_whole(name: str, mode: str, recording, emulated, plain_outputs) -> None:
    options = OPTIONS[mode]
    facts_pipeline = make(name)
    facts = observe(facts_pipeline, lambda steps: call(facts_pipeline, name, steps, generator=None))
    pipeline = make(name)
    resident = _resident_names(pipeline, options)
    with recording() as recorded:
        session = recorded.session
        session.register(pipeline)
        session.watch(pipeline)
        emulated.reset_counters()
        _apply(pipeline, options, session.setup)
        output = call(pipeline, name, STEPS)
        counted = emulated.counters()
    data = recorded.data
    expected = expected_copies(facts, options, STEPS, resident=resident)

    _check_against_the_device(data, counted)
    _check_against_the_mode(data, expected, {f"{w.fqn}.{w.name}": w.identity for w in facts.weights})
    _check_places(data)
    assert torch.equal(output, plain_outputs(name, mode))


def _resident_names(pipeline: Any, options: OffloadOptions) -> frozenset[str]:
    if options.mode != "partial":
        return frozenset()
    chosen = resident_parameters(pipeline, options)
    return frozenset(f"{component}.{name}" for component, names in chosen.items() for name in names)


def _check_against_the_device(data: RunData, counted: Any) -> None:
    sums = data.copies.groupby("direction", observed=True).size_bytes.agg(["count", "sum"])
    assert tuple(sums.loc["H2D"]) == (counted.h2d_count, counted.h2d_bytes)
    if counted.d2h_count:
        assert tuple(sums.loc["D2H"]) == (counted.d2h_count, counted.d2h_bytes)
    joined = build_timeline(data).copies
    assert (joined.copy_id != NONE).all(), "the device saw a copy that no hook saw"
    assert (joined.device_start_ns != NONE).all(), "a hook saw a copy that the device did not"


def _check_against_the_mode(data: RunData, expected: Any, identities: dict[str, int]) -> None:
    """Weight by weight; a tied one may be recorded under any of its names."""
    weights = data.copies[data.copies.fqn != ""]
    for direction, wanted in (("H2D", expected.setup + expected.h2d), ("D2H", expected.d2h)):
        mine = weights[weights.direction == direction]
        counts = Counter(identities[f"{row.fqn}.{row.parameter}"] for row in mine.itertuples())
        want = Counter[int]()
        for weight, times in wanted.items():
            want[weight.identity] += times
        assert counts == +want
        assert mine.size_bytes.sum() == sum(w.size_bytes * n for w, n in wanted.items())


def _check_places(data: RunData) -> None:
    timeline = build_timeline(data)
    copies, spans = timeline.copies, timeline.spans
    assert (copies.run_index != NONE).all()
    assert set(copies.phase) <= {"setup", "encode", "denoise", "decode"}
    assert (copies.phase != "").all()
    denoise = copies[copies.phase == "denoise"]
    assert (denoise.step_index != NONE).all()
    assert (copies[copies.phase != "denoise"].step_index == NONE).all()
    # No span was left open: every parent that a row names was written, too.
    ids = set(spans.span_id)
    assert set(spans.parent_id[spans.parent_id != NONE]) <= ids
    assert set(copies.span_id[copies.span_id != NONE]) <= ids
    assert (spans.end_ns >= spans.start_ns).all()
    assert len(timeline.steps) == STEPS
