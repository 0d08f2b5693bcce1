"""A run's tables and charts: the same figures as its summary, also where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from builders import START_NS, build_run, make_run, write_run

from tracekit.api import Run, load
from tracekit.errors import RunFolderError, UsageError
from tracekit.model import CauseRow, ModuleRow, StepRow, TransferRow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(write_run(tmp_path_factory.mktemp("runs") / "run", build_run()))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with one span and nothing else."""
    span = {"span_id": 0, "kind": "run", "run_index": 0, "start_ns": START_NS, "end_ns": START_NS + 1}
    return Run(write_run(tmp_path_factory.mktemp("runs") / "bare", make_run({"spans": [span]})))


def test_tables_are_the_summarys_rows(run: Run) -> None:
    summary = run.summary()
    assert run.steps["wall_ns"].tolist() == [step.wall_ns for step in summary.steps]
    assert run.modules["fqn"].tolist() == [module.fqn for module in summary.modules]
    assert run.transfers["first_ns"].tolist() == [row.first_ns for row in summary.transfers]
    by_step = run.causes.groupby(["run_index", "step_index"])["duration_ns"].sum()
    assert by_step.tolist() == run.steps["wall_ns"].tolist()
    assert {type(cause) for cause in run.causes["cause"]} == {str}


def test_numbers_that_are_missing_are_missing_numbers(run: Run) -> None:
    onloaded_once = run.transfers[run.transfers["onloads"] == 1]
    assert len(onloaded_once) > 0
    assert onloaded_once["warm_ns"].isna().all()
    assert all(pd.api.types.is_numeric_dtype(run.transfers[name]) for name in ("warm_ns", "excess_ns", "ceiling_ns"))


@pytest.mark.parametrize(
    ("name", "kind"), [("steps", StepRow), ("modules", ModuleRow), ("causes", CauseRow), ("transfers", TransferRow)]
)
def test_a_table_without_rows_has_its_columns(bare: Run, name: str, kind: type) -> None:
    frame = getattr(bare, name)
    assert (len(frame), list(frame.columns)) == (0, list(kind.__struct_fields__))


def test_the_manifest_needs_no_table(run: Run) -> None:
    fresh = Run(run.path)
    assert fresh.manifest == run.data.manifest
    assert "data" not in vars(fresh)
    with pytest.raises(RunFolderError):
        _ = Run(Path("nowhere")).manifest


def test_every_chart_is_a_plotly_figure_in_the_themes_colours(run: Run) -> None:
    figures = run.figures
    drawn = {
        "waterfall": figures.waterfall, "steps": figures.steps, "heat-copy": figures.heat,
        "residency-run": figures.residency,
        "bandwidth": figures.bandwidth, "memory": figures.memory, "totals": figures.totals,
    }  # fmt: skip
    assert set(drawn) <= set(figures.names())
    for name, draw in drawn.items():
        light, dark = draw(), draw(theme="dark")
        assert isinstance(light, go.Figure), name
        assert light.layout.font.color != dark.layout.font.color
        assert '"@' not in light.to_json() + dark.to_json()


def test_a_charts_figures_are_the_tables(run: Run) -> None:
    drawn = sum(np.asarray(bar.y, float) for bar in run.figures.steps().data)
    assert drawn / drawn.sum() == pytest.approx(run.steps["wall_ns"] / run.steps["wall_ns"].sum())


def test_a_chart_without_data_is_refused(bare: Run) -> None:
    with pytest.raises(UsageError, match="no data for the chart 'steps'"):
        bare.figures.steps()


def test_the_report_is_written_where_open_finds_it(run: Run) -> None:
    assert run.report_path is None
    assert run.write_report() == run.report_path == run.path / "report.html"
    assert run.report_path.read_text() == run.to_html()


def test_an_experiments_folder_is_no_run_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(RunFolderError, match="experiment's folder: name one of the runs in it"):
        load(tmp_path)
