"""On a GPU: `tracekit import` has all copies and kernels of a trace of torch.profiler, as the profiler had them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from tracekit import api
from tracekit.cli.main import main

pytestmark = pytest.mark.cuda

STEPS = 3
PAGEABLE_TO, PINNED_TO = "Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD (Pinned -> Device)"
BACK = "Memcpy DtoH (Device -> Pageable)"


def traced(path: Path) -> tuple[list[Any], int]:
    """Write a trace of a model that gets pageable and pinned input; the device's events in it, and an input's size."""
    model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512)).cuda().eval()
    pageable = torch.randn(1024, 512)  # 2 MiB: small ones are put into the command buffer
    pinned = pageable.pin_memory()

    def step() -> None:
        from_pageable = model(pageable.to("cuda"))
        from_pinned = model(pinned.to("cuda", non_blocking=True))
        (from_pageable + from_pinned).cpu()
        torch.cuda.synchronize()

    events: list[Any] = []

    def keep(profiler: profile) -> None:
        # Only here are a cycle's events there: the next cycle clears them.
        profiler.export_chrome_trace(str(path))
        events.extend(event for event in profiler.events() if event.device_type == DeviceType.CUDA)

    with torch.no_grad():
        step()  # libraries are loaded outside the trace
        with profile(
            activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA],
            schedule=schedule(wait=0, warmup=1, active=STEPS, repeat=1),
            on_trace_ready=keep,
        ) as profiler:
            for _ in range(1 + STEPS):
                with record_function("my part"):
                    step()
                profiler.step()
    # Kineto draws annotations on the device's rows, too.
    return [event for event in events if not event.name.startswith(("ProfilerStep", "my part"))], pageable.nbytes


def test_a_gpus_trace_is_imported_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events, size = traced(tmp_path / "gpu.json.gz")
    assert main(["import", str(tmp_path / "gpu.json.gz"), "--output", str(tmp_path / "run")]) == 0
    assert torch.cuda.get_device_name() in capsys.readouterr().out
    run = api.load(tmp_path / "run")

    copies = run.copies
    crossing = [event for event in events if event.name.startswith(("Memcpy HtoD", "Memcpy DtoH"))]
    assert Counter(copies.device_name) == Counter(event.name for event in crossing)
    assert Counter(copies.device_name) == {PAGEABLE_TO: STEPS, PINNED_TO: STEPS, BACK: STEPS}
    assert set(copies.size_bytes) == {size}
    assert set(copies[copies.device_name == PINNED_TO].host_memory) == {"pinned"}
    assert set(copies[copies.device_name != PINNED_TO].host_memory) == {"unknown"}
    assert Counter(copies.direction) == {"H2D": 2 * STEPS, "D2H": STEPS}
    assert Counter(copies.step_index) == dict.fromkeys(range(STEPS), 3)
    assert run.summary().h2d_bytes == 2 * STEPS * size

    kernels = run.data.device_ops[run.data.device_ops.op == "kernel"]
    theirs = [event for event in events if not event.name.startswith(("Memcpy", "Memset"))]
    assert len(kernels) == len(theirs) > 0
    took_ns = sum(event.time_range.elapsed_us() for event in theirs) * 1000
    assert (kernels.end_ns - kernels.start_ns).sum() == pytest.approx(took_ns, rel=0.01, abs=1000 * len(kernels))
    assert len(run.timeline.steps) == STEPS
    assert all(step.compute_ns > 0 for step in run.summary().steps)
