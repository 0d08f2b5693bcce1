"""Long garbage collections are spans of their own, whatever they fall into, and `gc.callbacks` are as before."""

from __future__ import annotations

import gc
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from accelerate.hooks import AlignDevicesHook
from perfetto.lint import lint

from tracekit import capture
from tracekit.analysis import build_timeline, summarize
from tracekit.capture.garbage import MIN_NS
from tracekit.model import NONE, Cause, RunData, SpanKind
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.render.chrome import write_chrome_trace

from .conftest import DEVICE, call, make

OBJECTS = 300_000
STEP = 1


def test_both_recorders_leave_out_the_same_short_collections() -> None:
    header = (Path(capture.__file__).parent / "native" / "csrc" / "hotpath.h").read_text()
    assert f"#define MIN_COLLECTION_NS {MIN_NS}\n" in header


class BoomError(Exception):
    pass


@pytest.fixture
def garbage() -> Iterator[Callable[[], None]]:
    """A full collection over many objects; no other runs meanwhile."""
    alive = [[index] for index in range(OBJECTS)]
    gc.collect()
    gc.disable()
    try:
        yield lambda: bool(alive) and gc.collect(2) and None
    finally:
        gc.enable()


def in_a_forward(pipeline: Any, collect: Callable[[], None], _: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def hook(*_: Any) -> None:
        if next(calls) == STEP:
            collect()

    pipeline.transformer.transformer_blocks[0].register_forward_hook(hook)


def in_an_onload(pipeline: Any, collect: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = iter(range(100)), AlignDevicesHook.pre_forward

    def pre_forward(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, module, *args, **kwargs)
        if module is pipeline.transformer.proj_out and next(calls) == STEP:
            collect()
        return result

    monkeypatch.setattr(AlignDevicesHook, "pre_forward", pre_forward)


def collections_of(data: RunData) -> pd.DataFrame:
    return data.spans[data.spans["kind"] == SpanKind.GARBAGE]


@pytest.mark.parametrize("where", [in_a_forward, in_an_onload])
def test_a_collection_in_a_step_is_its_own_cause_and_no_modules(
    where: Any, garbage, recording, emulated, monkeypatch
) -> None:
    pipeline = make()
    apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, lambda _: nullcontext())
    where(pipeline, garbage, monkeypatch)
    with recording() as recorded:
        recorded.session.register(pipeline)
        recorded.session.watch(pipeline)
        call(pipeline, steps=3)
    timeline = build_timeline(recorded.data)
    spans = timeline.spans.set_index("span_id")
    [span] = timeline.spans[timeline.spans["kind"] == SpanKind.GARBAGE].to_dict("records")
    took = span["end_ns"] - span["start_ns"]
    assert (span["name"], span["run_index"], span["step_index"]) == ("generation 2", 0, STEP)
    assert span["thread_id"] == threading.get_native_id()
    assert took >= MIN_NS
    around = spans.loc[span["parent_id"]]
    assert around["kind"] == ("forward" if where is in_a_forward else "onload")
    assert around["fqn"] == f"transformer.{'transformer_blocks.0' if where is in_a_forward else 'proj_out'}"
    assert around["start_ns"] <= span["start_ns"] < span["end_ns"] <= around["end_ns"]
    assert around["own_ns"] <= around["end_ns"] - around["start_ns"] - took

    summary = summarize(timeline)
    for step in summary.steps:
        parts = {row.cause: row.duration_ns for row in summary.causes if row.step_index == step.step_index}
        assert sum(parts.values()) == step.wall_ns
        assert (Cause.GARBAGE in parts) == (step.step_index == STEP)
        if step.step_index == STEP:
            assert parts[Cause.GARBAGE] >= 0.9 * took
            assert parts[Cause.HOOKS] + parts[Cause.MODEL] <= step.wall_ns - 0.9 * took

    stream = io.BytesIO()
    stats = write_chrome_trace(timeline, stream, compress=False)
    data = stream.getvalue()
    report = lint(data)
    assert (report.errors, report.warnings, stats.slices_in_extra_lanes) == ({}, {}, 0)
    [slice_] = [event for event in json.loads(data)["traceEvents"] if event.get("cat") == SpanKind.GARBAGE]
    assert slice_["name"] == "garbage collection: generation 2"


@pytest.mark.parametrize("fails", [False, True])
def test_the_callbacks_are_as_before_and_short_collections_no_spans(fails: bool, recording) -> None:
    theirs = [lambda *_: None, lambda *_: None, lambda *_: None]
    before = list(gc.callbacks)
    gc.callbacks[:] = [*before, *theirs[:2]]
    try:
        with pytest.raises(BoomError) if fails else nullcontext(), recording(with_device=False) as recorded:
            watched = list(gc.callbacks)
            assert len(watched) == len(before) + 3
            gc.callbacks.append(theirs[2])
            recorded.session.pause()
            recorded.session.pause()
            assert gc.callbacks == [*before, *theirs]
            recorded.session.resume()
            assert gc.callbacks == [*before, *theirs]
            recorded.session.resume()
            assert gc.callbacks == [*before, *theirs, watched[-1]]
            gc.collect(0)
            if fails:
                raise BoomError
        assert gc.callbacks == [*before, *theirs]
    finally:
        gc.callbacks[:] = before
    noted = collections_of(recorded.data)
    assert ((noted["end_ns"] - noted["start_ns"]) >= MIN_NS).all()


def test_nobody_minds_that_somebody_else_emptied_the_list(recording) -> None:
    before = list(gc.callbacks)
    try:
        with recording(with_device=False):
            gc.callbacks.clear()
        assert gc.callbacks == []
    finally:
        gc.callbacks[:] = before


def test_a_collection_on_another_thread_is_that_threads_and_one_of_tracekits_own_work_lies_in_it(
    garbage, recording
) -> None:
    ids = []

    def work() -> None:
        garbage()
        ids.append(threading.get_native_id())

    with recording(with_device=False) as recorded:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with recorded.recorder.own_work("tidy"):
            garbage()
    found = collections_of(recorded.data).sort_values("start_ns")
    assert found["thread_id"].tolist() == [*ids, threading.get_native_id()]
    spans = recorded.data.spans
    [own] = spans.loc[spans["name"] == "tidy", "span_id"]
    assert found["parent_id"].tolist() == [NONE, own]


def test_a_collection_before_a_modules_own_onload_lies_beside_its_forward(garbage, recording) -> None:
    """The onload's end is the forward's start, so that what came before the onload is no part of the forward."""

    class Hooked(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            garbage()
            opened = recorded.recorder.hooks.open_move(recorded.recorder.empty, False)
            recorded.recorder.hooks.close_move(opened, kind, recorded.recorder.empty)
            return super().forward(inputs)

    with recording(with_device=False) as recorded:
        kind = recorded.recorder.kind_id(SpanKind.ONLOAD)
        model = torch.nn.Sequential(Hooked(2, 2))
        with recorded.session.bare_run(model, "model"):
            model(torch.ones(1, 2))
    spans = build_timeline(recorded.data).spans
    [hooked] = spans[spans["fqn"] == "model.0"].to_dict("records")
    [outer] = spans[spans["fqn"] == "model"].to_dict("records")
    [found] = collections_of(recorded.data).to_dict("records")
    assert found["end_ns"] <= hooked["start_ns"]
    assert found["parent_id"] == hooked["span_id"]
    # Own times say where it was put: the inner forward lost nothing by it, the outer one all of it.
    assert hooked["own_ns"] == hooked["end_ns"] - hooked["start_ns"]
    assert outer["own_ns"] <= outer["end_ns"] - outer["start_ns"] - (found["end_ns"] - found["start_ns"])
