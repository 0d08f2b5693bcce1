"""An experiment's page: verdicts first, each with its seconds and its interval, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from golden import assert_golden, page_text
from pages import opened, spaced
from paper import assert_prints
from perfetto.browser import chromium

from tracekit.model import Cause
from tracekit.model.experiment import ArmRow, Effect, ExperimentSummary, HypothesisRow, Verdict, Window
from tracekit.render.html import render_experiment_page

S = 10**9
MS = 10**6


def effect(
    mean: int | None, low: int | None, high: int | None, verdict: Verdict, window: Window = Window.EXCESS
) -> Effect:
    return Effect(
        window=window, blocks=[0, 1], differences_ns=[mean or 0] * 2, mean_ns=mean, low_ns=low, high_ns=high,
        method="t", inside_ns=mean, share=None if mean is None else 0.5, verdict=verdict, reason="",
    )  # fmt: skip


def hypothesis(name: str, shown: Effect, warm: Effect | None = None) -> HypothesisRow:
    untold = effect(None, None, None, Verdict.CANNOT_TELL, Window.WARM)
    return HypothesisRow(
        hypothesis=name, claim=f"what {name} says", slow="evicted", fast="cached", effects=[shown, warm or untold],
        check=False, verdict=shown.verdict, reason="the interval lies above zero",
    )  # fmt: skip


def summary(**changes: Any) -> ExperimentSummary:
    arm = {"doc": "weights on disk", "used": 2, "void": 1, "failed": 0, "planned": 0}
    fields: dict[str, Any] = {
        "name": "paging", "workload": "w", "pipeline_class": "FluxPipeline", "mode": "sequential",
        "device_name": "NVIDIA H100", "emulated": False, "finished": 6, "turns": 8, "verdict": "It is paging.",
        "baseline": "evicted", "excess_ns": 8 * S, "warm_ns": 4 * S,
        "hypotheses": [
            hypothesis("page mapping", effect(S, S // 2, 2 * S, Verdict.SUPPORTED)),
            hypothesis("OS paging", effect(7 * S, 6 * S, 8 * S, Verdict.SUPPORTED)),
            hypothesis(
                "<b>allocator</b>",
                effect(0, -S, S, Verdict.REFUTED),
                effect(3 * S, 2 * S, 4 * S, Verdict.SUPPORTED, Window.WARM),
            ),
            hypothesis("warm-up", effect(None, None, None, Verdict.CANNOT_TELL)),
        ],
        "arms": [
            ArmRow(arm="evicted", first_ns=12 * S, warm_ns=4 * S, first_causes_ns={Cause.DISK: 7 * S}, **arm),
            ArmRow(arm="<i>pinned</i>", left_out="no page-locked memory", **arm),
        ],
        "warnings": ["{{7*7}}"],
    }  # fmt: skip
    return ExperimentSummary(**(fields | changes))


def test_golden() -> None:
    assert_golden("experiment-page.txt", page_text(render_experiment_page(summary())))


def test_the_costliest_cause_leads() -> None:
    page = spaced(render_experiment_page(summary()))
    title = page.partition('<h1 id="h-verdict">')[2].partition("</h1>")[0]
    assert title.startswith(
        "OS paging makes step 1 longer by 7.00 s, page mapping by 1.00 s, every warm step pays 3.00 s"
    )
    assert "95% interval 6.00 s to 8.00 s; by the causes inside the runs 7.00 s" in page
    assert "Of every warm step: 3.00 s (2.00 s to 4.00 s), supported" in page
    assert "2 of 4 causes are shown, 1 refuted, 1 cannot be told" in page
    assert '<span class="gain">7.00 s</span>' in page
    assert "<b>allocator" not in page
    assert "<i>pinned" not in page


def test_what_is_not_shown_has_a_bound_and_no_cost() -> None:
    """The middle of an interval that reaches zero is no result."""
    untold = effect(179 * MS, -S, 2 * S, Verdict.CANNOT_TELL)
    below = effect(-3 * MS, -5 * MS, -MS, Verdict.REFUTED)
    one_pair = effect(179 * MS, None, None, Verdict.CANNOT_TELL)
    rows = [hypothesis(name, shown) for name, shown in (("a", untold), ("b", below), ("c", one_pair))]
    page = spaced(render_experiment_page(summary(hypotheses=rows)))
    assert re.findall('<span class="gain">(.*?)</span>', page) == ["at most 2.00 s", "at most 0 ns"]
    assert "of step 1 beyond a warm step, mean 179 ms, 95% interval -1.00 s to 2.00 s; by" in page
    assert "of step 1 beyond a warm step, mean 179 ms, 95% interval not known" in page


def test_a_check_is_no_cause() -> None:
    both = hypothesis("both", effect(8 * S, 7 * S, 9 * S, Verdict.SUPPORTED))
    both.check = True
    page = spaced(
        render_experiment_page(summary(hypotheses=[hypothesis("one", effect(S, S, S, Verdict.SUPPORTED)), both]))
    )
    assert "1 of 1 causes are shown, 0 refuted, 0 cannot be told" in page


def test_an_experiment_of_which_nothing_ran_has_a_page() -> None:
    untold = hypothesis("OS paging", effect(None, None, None, Verdict.CANNOT_TELL))
    page = spaced(render_experiment_page(summary(hypotheses=[untold], arms=[])))
    assert "No hypothesis is supported by what has been run" in page
    assert 'class="plot"' not in page


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (420, "light"), (420, "dark")])
def test_it_is_accessible_and_drawn(tmp_path: Path, width: int, theme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_experiment_page(summary()), encoding="utf-8")
    with opened(file, width, theme) as visit:
        assert visit.console == []
        assert visit.requests == [file.as_uri()]
        assert visit.page.locator(".plot .point").count() >= 5
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(visit.page).response["violations"]
        assert [(item["id"], item["nodes"][0]["html"]) for item in found] == []


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium")
def test_it_fits_on_paper(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_experiment_page(summary()), encoding="utf-8")
    with opened(file, theme="dark") as visit:
        assert_prints(visit.page)


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium")
def test_without_scripts_verdicts_and_tables_are_there(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_experiment_page(summary()), encoding="utf-8")
    with opened(file, scripts=False) as visit:
        page = visit.page
        assert page.locator("h1").is_visible()
        assert page.locator(".verdicts > li:visible").count() == 4
        assert page.locator(".plot:visible").count() == 0
        page.locator("#effects summary").click()
        assert page.locator("#effects tbody tr:visible").count() == 8
        assert page.locator("#arms tbody tr:visible").count() == 2
