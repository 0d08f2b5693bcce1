"""A fixed piece of Python is timed as a run begins, at steps' ends and inside long steps, as tracekit's own work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload

from tracekit.analysis import build_timeline
from tracekit.capture import hostspeed
from tracekit.capture.hostspeed import INTERVAL_NS, HostSpeed
from tracekit.capture.recorder import Recorder
from tracekit.model import HOST_PYTHON, NONE, SpanKind
from tracekit.offload.apply import apply_offload
from tracekit.offload.options import OffloadOptions
from tracekit.runfolder import RunWriter, read_run

from .conftest import DEVICE, blank_manifest, call, make
from .mapped_files import MB, Weights

LAYERS = 4


class Clock:
    """A clock that only the pieces of Python move on, each by the next of `durations_ns`, or 1 ns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *durations_ns: int) -> None:
        self.now = 0
        self._durations = iter(durations_ns)
        monkeypatch.setattr(hostspeed, "_piece", self._piece)

    def __call__(self) -> int:
        return self.now

    def _piece(self) -> None:
        self.now += next(self._durations, 1)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    writer = RunWriter.create(tmp_path / "clocked", blank_manifest())
    yield Recorder(writer)
    writer.finish(blank_manifest())


def samples(path: Path) -> Any:
    counters = read_run(path).counters
    return counters[counters["series"] == HOST_PYTHON]


def test_a_pipelines_steps_each_end_with_a_sample(recording: Any) -> None:
    steps = 3
    with recording() as recorded:
        pipeline = make("flux-tiny")
        apply_offload(pipeline, OffloadOptions(mode="sequential"), DEVICE, nullcontext)
        call(pipeline, steps=steps)
    run = read_run(recorded.path)
    timeline = build_timeline(run)
    took = samples(recorded.path)
    assert (took["device_index"] == NONE).all()
    assert (took["value"] > 0).all()
    for end in timeline.steps["end_ns"]:
        assert ((took["t_ns"] > end) & (took["t_ns"] < end + INTERVAL_NS)).any()
    begins = timeline.runs["start_ns"].iloc[0]
    assert (took["t_ns"] < begins).any()
    own = run.spans[run.spans["name"] == "time the host"]
    assert len(own) == len(took)
    assert (own["kind"] == SpanKind.TRACEKIT).all()
    assert recorded.recorder.overhead_ns["time the host"] > 0


def test_the_fastest_try_counts(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder.clock = Clock(monkeypatch, 900, 20, 50, 70, 60, 80)
    speed = HostSpeed(recorder)
    speed.run_begins()
    speed.step_ended()
    recorder.sink.flush()
    assert samples(tmp_path / "clocked")["value"].tolist() == [20, 60]


def test_a_long_step_has_samples_inside_and_a_short_one_has_none(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    recorder.clock = clock
    speed = HostSpeed(recorder)
    speed.run_begins()
    for moment in (INTERVAL_NS // 2, INTERVAL_NS + 10, INTERVAL_NS + 20, 2 * INTERVAL_NS + 30):
        clock.now = moment
        speed.sample_if_due(moment)
    recorder.sink.flush()
    assert (samples(tmp_path / "clocked")["t_ns"] // INTERVAL_NS).tolist() == [0, 1, 2]


def test_copies_of_weights_are_where_a_long_step_is_sampled(
    recording: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostspeed, "INTERVAL_NS", 0)
    weights = Weights(tmp_path / "model.safetensors", LAYERS, MB)
    cpu_offload(weights, DEVICE)
    with recording() as recorded, recorded.session.bare_run(weights, "net"), torch.no_grad():
        weights(torch.ones(1, 1024, device=DEVICE))
    assert len(samples(recorded.path)) == 1 + LAYERS
