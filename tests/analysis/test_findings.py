"""Named findings: each on the run that shows it, none without evidence, none for noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import US, build_run, make_frame

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.findings import find_findings
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.model import CALIBRATION, DeviceInfo, Measure, OffloadInfo, RunData
from tracekit.model.finding import Basis, Finding
from tracekit.units import GIB

RATES = {
    Measure.PINNED_H2D: 50_000,
    Measure.PAGEABLE_H2D: 8_000,
    Measure.FRESH_D2H: 1_000,
    Measure.PIN: 20_000,
    Measure.CLONE: 20_000,
    Measure.HOST_COPY: 20_000,
}
ROOMY = DeviceInfo(kind="cuda", name="GPU", torch_device="cuda:0", total_bytes=80 * GIB, cap_bytes=12 * GIB)
SMALL = DeviceInfo(kind="cuda", name="GPU", torch_device="cuda:0", total_bytes=80 * GIB, cap_bytes=200 << 20)
"""It has room for a part of the weights that `run` builds."""


def run(device: DeviceInfo = SMALL, **changes: Any) -> RunData:
    built = build_run(steps=20, blocks=6, weight_bytes=32 << 20, device="cuda", **changes)
    rows = [
        {"measure": str(measure), "size_bytes": size, "duration_ns": size * US // rate}
        for measure, rate in RATES.items()
        for size in (1 << 16, 1 << 20, 1 << 26)
    ]
    manifest = built.manifest
    manifest.device = device
    return replace(built, calibration=make_frame(CALIBRATION, rows))


def found(data: RunData) -> dict[str, Finding]:
    timeline = build_timeline(data)
    found = find_findings(timeline, summarize(timeline), Predictor(timeline))
    return {finding.slug: finding for finding in found}


@pytest.fixture(scope="module")
def of_sequential() -> dict[str, Finding]:
    return found(run())


@pytest.mark.parametrize("slug", ["pageable-memory", "exposed-copies", "idle-device-memory", "larger-dtype"])
def test_a_sequential_run_from_pageable_memory_shows_what_would_be_faster(
    slug: str, of_sequential: dict[str, Finding]
) -> None:
    finding = of_sequential[slug]
    assert [gain.steps for gain in finding.gains] == [20, 28]
    assert 0 < finding.gains[-1].low_ns <= finding.gains[-1].high_ns
    assert finding.basis is Basis.PREDICTED
    assert finding.evidence
    assert finding.code
    compile(finding.code, "<pasted>", "exec")


def test_findings_are_ranked_by_what_they_save(of_sequential: dict[str, Finding]) -> None:
    gains = [finding.gains[-1].low_ns for finding in of_sequential.values()]
    assert gains == sorted(gains, reverse=True)


def test_cache_clearing_is_measured_where_it_takes_time() -> None:
    data = run()
    # Kernels of no length: waiting for those that run is not the clearing's own time.
    ops = data.device_ops
    is_kernel = (ops["op"] == "kernel").to_numpy()
    data = replace(data, device_ops=ops.assign(end_ns=np.where(is_kernel, ops["start_ns"], ops["end_ns"])))
    spans = data.spans
    clears = (spans["kind"] == "empty_cache").to_numpy()
    # Each built call takes 3 us: all of them together are something, and nothing when they take no time.
    shorter = spans.assign(end_ns=np.where(clears, spans["start_ns"], spans["end_ns"]))
    finding = found(data)["cache-clearing"]
    assert finding.basis is Basis.MEASURED
    assert [(gain.low_ns, gain.high_ns) for gain in finding.gains] == [(n * 4 * 6 * 3 * US,) * 2 for n in (20, 28)]
    assert "cache-clearing" not in found(replace(data, spans=shorter))


def test_a_gain_within_the_noise_of_warm_steps_is_no_finding(of_sequential: dict[str, Finding]) -> None:
    data = run()
    steps = build_timeline(data).steps
    last = int(steps["start_ns"].iloc[-1])
    # The last step takes longer than everything that could be saved: the host was away in the middle of it.
    away = 10 * int((steps["end_ns"] - steps["start_ns"]).sum())
    middle = last + int(steps["end_ns"].iloc[-1] - last) // 2

    def later(frame: Any) -> Any:
        return frame.assign(
            **{name: np.where(frame[name] > middle, frame[name] + away, frame[name]) for name in ("start_ns", "end_ns")}
        )

    tables = ("spans", "copies", "device_ops", "runtime_calls")
    noisy = replace(data, **{name: later(getattr(data, name)) for name in tables})
    assert of_sequential
    assert found(noisy) == {}


@pytest.mark.parametrize("mode", ["resident", "script"])
def test_what_belongs_to_streaming_is_not_found_in_other_modes(mode: str) -> None:
    data = run(offload=OffloadInfo(mode=mode))
    assert not {"pageable-memory", "cache-clearing", "mapped-weights", "group-copies-back"} & found(data).keys()


def test_a_script_that_streams_is_advised_in_code_alone() -> None:
    of_script = found(run(offload=OffloadInfo(mode="script")))
    assert of_script["exposed-copies"].command == ""
    assert "group" in of_script["exposed-copies"].code


def test_weights_that_fit_are_advised_to_stay_and_nothing_less() -> None:
    of_roomy = found(run(ROOMY))
    finding = of_roomy["weights-fit"]
    assert finding.command == "tracekit profile synthetic:flux-tiny --offload resident"
    assert "idle-device-memory" not in of_roomy
    assert set(finding.instead_of) == {"pageable-memory", "exposed-copies"} & of_roomy.keys()


def test_alternatives_name_each_other_and_what_combines_does_not(of_sequential: dict[str, Finding]) -> None:
    for slug, finding in of_sequential.items():
        assert slug not in finding.instead_of
        for other in finding.instead_of:
            assert slug in of_sequential[other].instead_of
    assert "exposed-copies" in of_sequential["pageable-memory"].instead_of
    assert "idle-device-memory" not in of_sequential["pageable-memory"].instead_of
    assert of_sequential["larger-dtype"].instead_of == []


def test_what_cannot_be_predicted_is_told_without_a_gain_where_its_evidence_speaks() -> None:
    data = run()
    blind = found(replace(data, calibration=data.calibration.iloc[:0]))
    assert blind["pageable-memory"].gains == []
    assert "the gain is not predicted, since" in blind["pageable-memory"].evidence
    assert list(blind)[-1] in ("pageable-memory", "exposed-copies")


def test_a_short_profile_says_what_many_steps_gain() -> None:
    data = run()
    finding = found(data)["pageable-memory"]
    own, many = finding.gains
    assert many.low_ns > own.low_ns


def test_each_finding_leads_to_a_moment_of_the_run(of_sequential: dict[str, Finding]) -> None:
    finding = of_sequential["pageable-memory"]
    assert finding.start_ns is not None
    assert finding.end_ns is not None
    assert finding.start_ns < finding.end_ns
