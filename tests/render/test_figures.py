"""Charts as plain dictionaries: colours by name, texts of strangers harmless, and every name one that plotly knows."""

from __future__ import annotations

import base64
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from builders import build_run
from golden import assert_golden

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.report import build_report
from tracekit.model import CeilingRow, Measure
from tracekit.model.finding import Basis
from tracekit.model.report import Part, Report, StepParts, TotalLine
from tracekit.render.figures import comparison_figures, resolved, run_figures
from tracekit.render.figures.bandwidth import bandwidth_figure
from tracekit.render.figures.causes import waterfall_figure
from tracekit.render.figures.common import plain
from tracekit.render.figures.palette import COLOURS, PATTERNS, contrast, css_variables
from tracekit.render.figures.totals import totals_figure

S = 10**9


@pytest.fixture(scope="module")
def report() -> Report:
    timeline = build_timeline(build_run(steps=4))
    return build_report([(timeline, summarize(timeline), None)])


def step(label: str, **parts: int) -> StepParts:
    rows = [Part(name=name.replace("_", " "), duration_ns=duration) for name, duration in parts.items()]
    wall = sum(parts.values())
    return StepParts(
        label=label, run_index=0, step_index=int(label) - 1, start_ns=0, end_ns=wall, wall_ns=wall, parts=rows
    )


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in texts(part)]


def test_plotly_knows_every_name(report: Report) -> None:
    import plotly.graph_objects as go

    figures = run_figures(report.runs[0]) | comparison_figures(report)
    heats = ["heat-copy", "heat-rate", "heat-resident", "heat-compute"]
    stays = ["residency-run", "residency-first", "residency-warm"]
    assert list(figures) == ["waterfall", "steps", *heats, *stays, "bandwidth", "memory", "totals"]
    for theme in ("light", "dark"):
        for figure in figures.values():
            drawn = go.Figure(resolved(figure, theme))
            assert len(drawn.data) == len(figure["data"])
            assert not [text for text in texts(json.loads(drawn.to_json())) if text.startswith("@")]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_from_their_ground_and_texts_be_read(theme: Any) -> None:
    colours = css_variables(theme)
    for name in PATTERNS:
        assert contrast(colours[f"c-{name}"], colours["c-card"]) >= 3, name
        assert contrast(colours[f"c-on-{name}"], colours[f"c-{name}"]) >= 4.5, name
    for name in ("ink", "muted"):
        assert contrast(colours[f"c-{name}"], colours["c-card"]) >= 4.5


def test_no_two_parts_have_the_same_pattern() -> None:
    assert len(set(PATTERNS.values())) == len(PATTERNS)
    assert set(PATTERNS) < set(COLOURS)


def test_contrast_is_wcags() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert math.isclose(contrast("#767676", "#ffffff"), 4.54, abs_tol=0.01)


def test_the_waterfall_is_what_it_was() -> None:
    warm = step("3", pageable_staging=2_400_000_000, link=400_000_000, compute=110_004_000, offload_hooks=490_000_000)
    first = step("1", disk_reads=7_010_000_000, pageable_staging=2_430_000_000, link=400_000_000, compute=140_001_000,
                 first_use=94_999_000, offload_hooks=480_000_000)  # fmt: skip
    assert_golden("waterfall.json", json.dumps(waterfall_figure(first, warm), indent=1, ensure_ascii=False) + "\n")


def test_a_heat_maps_bytes_are_its_values(report: Report) -> None:
    heat = report.runs[0].heat
    assert heat is not None
    assert heat.copy is not None
    stored = np.frombuffer(heat.copy.values, "<f4")
    z = resolved(run_figures(report.runs[0])["heat-copy"])["data"][0]["z"]
    shown = np.frombuffer(base64.b64decode(z["bdata"]), "<f4")
    assert np.allclose(shown, stored / 1_000_000, rtol=1e-3)
    assert z["shape"] == f"{len(heat.modules)}, 4"


def test_residency_shows_shares_and_what_all_weights_hold(report: Report) -> None:
    residency = report.runs[0].residency
    assert residency is not None
    figures = run_figures(report.runs[0])
    for window in residency.windows:
        cells, level = resolved(figures[f"residency-{window.key}"])["data"]
        share = np.frombuffer(window.share.values, "<f4").reshape(window.share.rows, window.share.columns)
        there = share.any(axis=1)
        shown = np.frombuffer(base64.b64decode(cells["z"]["bdata"]), "<f4").reshape(-1, len(cells["x"]))
        assert cells["y"] == [name for name, is_there in zip(residency.modules, there, strict=True) if is_there]
        assert np.allclose(shown, 100 * share[there], rtol=1e-3)
        assert [round(mib * 2**20) for mib in level["y"][:-1]] == window.weight_bytes
        assert level["x"][0] < cells["x"][0] < level["x"][1]
    labels = [label["text"] for label in figures["residency-run"]["layout"]["annotations"]]
    assert labels == ["most 7.64 MiB of 79.2 GiB"]


def test_bandwidth_shows_the_ceilings_that_were_measured(report: Report) -> None:
    sizes = (2**20, 2**27)
    ceilings = [
        CeilingRow(measure=measure, size_bytes=size, samples=3, median_ns=size // rate, min_ns=1, max_ns=2)
        for measure, rate in ((Measure.PINNED_H2D, 50), (Measure.PAGEABLE_H2D, 10), (Measure.PINNED_D2H, 40))
        for size in sizes
    ]
    figure = bandwidth_figure(report.runs[0].copies, ceilings)
    lines = {trace["name"]: trace["y"] for trace in figure["data"] if trace["mode"] == "lines"}
    assert set(lines) == {"pinned ceiling", "pageable, whole calls"}
    assert all(math.isclose(rate, 50, rel_tol=1e-3) for rate in lines["pinned ceiling"])
    # 8 GB/s warm and 1.6 cold are what the built run's copies take.
    medians = {trace["name"]: trace["y"] for trace in figure["data"] if trace.get("customdata")}
    assert math.isclose(medians["warm, mmap"][-1], 8, rel_tol=0.01)
    assert math.isclose(medians["paged, mmap"][-1], 1.6, rel_tol=0.01)


def test_predictions_are_hatched() -> None:
    lines = [
        TotalLine(name=f"<b>{basis}</b>", setup_ns=S, around_ns=S, first_step_ns=5 * S, warm_step_ns=2 * S,
                  warm_low_ns=S, warm_high_ns=3 * S, once_low_ns=6 * S, once_high_ns=8 * S,
                  measured_steps=4, basis=basis)
        for basis in Basis
    ]  # fmt: skip
    bands = [trace for trace in totals_figure(lines)["data"] if "fillpattern" in trace]
    assert [band["fillpattern"]["shape"] for band in bands] == ["", "/"]
    # Between the bounds at 1 step and at 100, whatever lies once before the warm ones.
    assert bands[1]["y"] == [6, 6 + 99, 8 + 3 * 99, 8]
    names = [trace["name"] for trace in totals_figure(lines)["data"]]
    assert [name for name in names if name.endswith(": measured")] == [f"{plain('<b>measured</b>')}: measured"]
    assert not [name for name in names if "<" in name]


def test_neighbouring_lines_differ_in_colour_and_dash() -> None:
    lines = [
        TotalLine(name=str(index), setup_ns=0, around_ns=0, first_step_ns=S, warm_step_ns=S, warm_low_ns=S,
                  warm_high_ns=S, once_low_ns=S, once_high_ns=S, measured_steps=2, basis=Basis.MEASURED)
        for index in range(4)
    ]  # fmt: skip
    styles = [trace["line"] for trace in totals_figure(lines)["data"] if "dash" in trace.get("line", {})]
    for first, second in itertools.pairwise(styles):
        assert first["color"] != second["color"]
        assert first["dash"] != second["dash"]
