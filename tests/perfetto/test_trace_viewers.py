"""The real viewers in a real browser: the Perfetto UI, and chrome://tracing's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import build_run

from perfetto.browser import chromium
from perfetto.catapult import open_in_catapult
from perfetto.engine import TraceError
from perfetto.importing import import_problems
from perfetto.lint import lint
from perfetto.ui import open_trace
from tracekit.analysis.timeline import build_timeline
from tracekit.render.chrome import write_chrome_trace

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium"),
]


def write(path: Path, **options: Any) -> Path:
    with path.open("wb") as stream:
        write_chrome_trace(build_timeline(build_run(**options)), stream)
    return path


def test_the_perfetto_ui_shows_every_track_and_the_copys_arrow(tmp_path: Path) -> None:
    trace = write(tmp_path / "trace.json.gz")
    with open_trace(trace) as ui:
        assert ui.import_errors() == 0
        assert import_problems(lint(trace.read_bytes()), ui.query) == []
        assert set(ui.tracks()) == {
            "host: FluxPipeline, sequential 4242", "main 4242", "weights in page cache share",
            "GPU 0: NVIDIA H100 80GB HBM3 1", "stream 7", "D2H copies GB/s", "H2D copies GB/s",
            "memory allocated GiB", "memory reserved GiB", "weights on device GiB", "NVML power W",
        }  # fmt: skip
        ((slice_id, step_start, step_length),) = ui.query(
            "select c.id, s.ts, s.dur from slice c, slice s where s.name = 'ProfilerStep#0' and "
            "c.category = 'gpu_memcpy' and c.ts between s.ts and s.ts + s.dur order by c.dur desc limit 1"
        )
        ui.expand()
        details = ui.select(slice_id)
        ui.zoom(step_start, step_start + step_length)
        picture = tmp_path / "perfetto.png"
        ui.screenshot(picture)
        shown = (
            "Memcpy HtoD (Pageable -> Device)",
            "Following Flows",
            "ff.proj: Linear",
            "first and paged",
            "1.6",
        )
        assert [text for text in shown if text not in details] == []
        assert picture.stat().st_size > 20_000
        assert ui.errors == []


def test_an_emulated_run_says_so_in_the_ui(tmp_path: Path) -> None:
    with open_trace(write(tmp_path / "trace.json.gz", device="emulated")) as ui:
        assert ui.import_errors() == 0
        assert {"host: FluxPipeline, sequential, emulated device 4242", "emulated accelerator 0 (no GPU) 1"} <= set(
            ui.tracks()
        )


def test_the_ui_says_in_its_words_what_it_cannot_open(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    path.write_bytes(write(tmp_path / "whole.json.gz").read_bytes()[:500])
    with pytest.raises(TraceError, match=r"did not open|shows a dialog"), open_trace(path):
        pass


def test_chrome_tracing_opens_it_without_a_warning(tmp_path: Path) -> None:
    trace = write(tmp_path / "trace.json.gz")
    seen = open_in_catapult(trace)
    report = lint(trace.read_bytes())
    assert seen["warnings"] == []
    assert sorted(seen["processes"]) == ["GPU 0: NVIDIA H100 80GB HBM3", "host: FluxPipeline, sequential"]
    assert (seen["slices"], seen["flows"], seen["counters"]) == (report.slices, report.flows, 7)
