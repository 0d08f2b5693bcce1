"""Named findings: each on the run that shows it, none without evidence, none for noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import US, build_run, make_frame

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.findings import find_findings
from tracekit.model import CALIBRATION, DeviceInfo, Measure, OffloadInfo, RunData
from tracekit.model.report import Basis, Finding
from tracekit.units import GIB

RATES = {
    Measure.PINNED_H2D: 50_000,
    Measure.PAGEABLE_H2D: 8_000,
    Measure.FRESH_D2H: 1_000,
    Measure.PIN: 20_000,
    Measure.CLONE: 20_000,
}
ROOMY = DeviceInfo(kind="cuda", name="GPU", torch_device="cuda:0", total_bytes=80 * GIB, cap_bytes=12 * GIB)


def run(**changes: Any) -> RunData:
    built = build_run(steps=20, blocks=6, weight_bytes=32 << 20, device="cuda", **changes)
    rows = [
        {"measure": str(measure), "size_bytes": size, "duration_ns": size * US // rate}
        for measure, rate in RATES.items()
        for size in (1 << 16, 1 << 20, 1 << 26)
    ]
    manifest = built.manifest
    manifest.device = ROOMY
    return replace(built, calibration=make_frame(CALIBRATION, rows))


def found(data: RunData) -> dict[str, Finding]:
    timeline = build_timeline(data)
    return {finding.slug: finding for finding in find_findings(timeline, summarize(timeline))}


@pytest.fixture(scope="module")
def of_sequential() -> dict[str, Finding]:
    return found(run())


@pytest.mark.parametrize("slug", ["pageable-memory", "idle-device-memory", "larger-dtype"])
def test_a_sequential_run_from_pageable_memory_shows_what_would_be_faster(
    slug: str, of_sequential: dict[str, Finding]
) -> None:
    finding = of_sequential[slug]
    assert finding.low_ns is not None
    assert finding.high_ns is not None
    assert 0 < finding.low_ns <= finding.high_ns
    assert finding.basis is Basis.PREDICTED
    assert finding.evidence
    assert finding.code
    compile(finding.code, "<pasted>", "exec")


def test_findings_are_ranked_by_what_they_save(of_sequential: dict[str, Finding]) -> None:
    gains = [finding.low_ns or 0 for finding in of_sequential.values()]
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
    assert finding.low_ns == finding.high_ns == 20 * 4 * 6 * 3 * US
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
    assert not {"pageable-memory", "idle-device-memory", "cache-clearing", "group-copies-back"} & found(data).keys()


def test_a_run_that_nothing_can_be_predicted_from_has_no_findings() -> None:
    assert found(run(activity="none")) == {}
