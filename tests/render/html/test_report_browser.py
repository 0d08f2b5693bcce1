"""The report of a real run in a real browser: what it asks for, what it draws, how it answers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import READY, Opened, opened
from paper import assert_prints
from perfetto.browser import chromium
from playwright.sync_api import Page

from tracekit.model.report import Report
from tracekit.units import DurationUnit, format_rate, format_share

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium"),
]
MODULE_NAMES = "[...document.querySelectorAll('table.modules tbody tr td:first-child')].map(cell => cell.textContent)"


@pytest.fixture
def here(page_file: Path) -> Iterator[Opened]:
    with opened(page_file) as visit:
        yield visit


@pytest.fixture
def page(here: Opened) -> Page:
    return here.page


def table_rows(page: Page, section: str) -> list[list[str]]:
    rows = page.locator(f"{section} .scroll").first.locator("tbody tr")
    return rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.textContent))")


def traces(page: Page, figure: str) -> list[dict[str, Any]]:
    """What plotly drew last."""
    found: list[dict[str, Any]] = page.evaluate(
        "figure => document.querySelector(`.plot[data-figure='${figure}']`).data.map("
        "({x, y, base, name, customdata, text}) => ({x, y, base, name, customdata, text}))",
        figure,
    )
    return found


@pytest.mark.parametrize("width", [1440, 420])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_accessible_fits_and_asks_for_nothing(page_file: Path, width: int, theme: str) -> None:
    with opened(page_file, width, theme) as visit:
        page = visit.page
        assert visit.console == []
        assert visit.requests == [page_file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        results = Axe().run(page)
        assert [
            f"{item['id']}: {node['html'][:120]}" for item in results.response["violations"] for node in item["nodes"]
        ] == []


def test_every_chart_is_drawn_and_has_a_table(page: Page, report: Report) -> None:
    plots = page.locator(".plot")
    names = plots.evaluate_all("plots => plots.map(plot => plot.dataset.figure)")
    assert names == ["waterfall", "steps", "heat-copy", "residency-run", "bandwidth", "memory", "totals"]
    for index in range(len(names)):
        plot = plots.nth(index)
        assert plot.locator("svg.main-svg").count() > 0
        assert plot.locator(".point, .js-line, .heatmaplayer image").count() > 0, names[index]
        # plotly.js draws a kind of chart that its bundle lacks as a scatter chart, and says nothing.
        asked, got = plot.evaluate("plot => [plot.data, plot._fullData].map(traces => traces.map(({type}) => type))")
        assert got == asked, names[index]
        assert plot.get_attribute("aria-label")
        card = plot.locator("xpath=ancestor::section")
        assert card.locator("details summary").filter(has_text="Table").count() == 1, names[index]
    assert page.locator("h1").text_content() == f"{report.runs[0].titles.verdict}."


def test_charts_show_their_tables_numbers(page: Page, report: Report) -> None:
    run = report.runs[0]
    assert run.first is not None
    unit = DurationUnit.fitting(max(step.wall_ns for step in run.steps))
    rows = table_rows(page, "#steps")
    drawn = traces(page, "steps")
    for number, (row, step) in enumerate(zip(rows, run.steps, strict=True)):
        assert row[0] == step.label
        assert [trace["customdata"][number] for trace in drawn] == row[2:]
        # The parts add up to the wall time, as drawn and as displayed.
        assert math.isclose(sum(trace["y"][number] for trace in drawn), unit.value(step.wall_ns), rel_tol=1e-9)
        assert sum(round(100 * float(cell.replace(",", ""))) for cell in row[2:]) == round(
            100 * float(row[1].replace(",", ""))
        )

    rows = table_rows(page, "#cold")
    bars = traces(page, "waterfall")
    assert [bar["text"][0] for bar in bars[1:-1]] == [row[4] for row in rows[:-1] if row[4] not in ("+0.00", "−0.00")]
    assert [bars[0]["text"][0], bars[-1]["text"][0]] == [rows[-1][2], rows[-1][3]]
    reached = bars[0]["x"][0]
    for bar in bars[1:-1]:
        assert math.isclose(bar["base"][0], reached, abs_tol=1e-9)
        reached += bar["x"][0]
    assert math.isclose(reached, bars[-1]["x"][0], abs_tol=1e-9)

    rows = table_rows(page, "#bandwidth")
    medians = [trace for trace in traces(page, "bandwidth") if trace["customdata"]]
    shown = [(trace["name"], rate) for trace in medians for rate in trace["y"]]
    listed = [row for row in rows if not row[0].startswith("ceiling")]
    assert [name for name, _ in shown] == [row[0] for row in listed]
    for (_, rate), row in zip(shown, listed, strict=True):
        assert row[4] == format_rate(rate, 1)


def test_the_heat_maps_table_holds_what_is_drawn(page: Page, report: Report) -> None:
    page.locator("#heat summary").click()
    for name in ("Copy time", "GB/s"):
        page.get_by_role("button", name=name, exact=True).click()
        header = page.locator("#heat thead th").all_text_contents()
        assert header == ["module", "1", "2", "3", "4"]
        rows = table_rows(page, "#heat")
        heat = report.runs[0].heat
        assert heat is not None
        assert [row[0] for row in rows] == heat.modules
    assert page.locator("#heat caption").text_content() == "GB/s, by module and step"
    assert page.locator("#heat [aria-pressed=true]").text_content() == "GB/s"


def test_the_residency_charts_show_their_tables_numbers(page: Page) -> None:
    rows = table_rows(page, "#residency")
    header = page.locator("#residency thead th").all_text_contents()
    views = page.locator("#residency [data-view]").all_text_contents()
    assert [name.lower() for name in header[2:-1]] == [name.lower() for name in views]
    for column, name in enumerate(views, start=2):
        page.get_by_role("button", name=name, exact=True).click()
        drawn = page.evaluate("""() => {
            const [cells, level] = document.querySelector("#residency .plot")._fullData;
            const means = [...cells.z].map(row => [...row].reduce((sum, share) => sum + share, 0) / row.length);
            return {means: Object.fromEntries(cells.y.map((name, row) => [name, means[row]])), level: level.y};
        }""")
        assert rows[0][column] == f"{max(drawn['level']):.3g} MiB"
        for row in rows[1:]:
            share = drawn["means"].get(row[0], 0) / 100
            assert row[column] in {format_share(share * (1 + error)) for error in (-1e-3, 0, 1e-3)}, row[0]


def test_the_table_sorts_filters_and_downloads(page: Page, report: Report, tmp_path: Path) -> None:
    modules = report.runs[0].summary.modules
    exposed = sorted(modules, key=lambda module: -module.exposed_ns)
    assert page.evaluate(MODULE_NAMES)[:3] == [module.fqn for module in exposed[:3]]
    page.locator("#modules thead").get_by_role("button", name="size").click()
    assert page.locator("#modules th[aria-sort=descending]").text_content() == "size"
    largest = max(module.weight_bytes for module in modules)
    assert next(module for module in modules if module.fqn == page.evaluate(MODULE_NAMES)[0]).weight_bytes == largest
    page.locator("#modules thead").get_by_role("button", name="size").click()
    smallest = min(module.weight_bytes for module in modules)
    assert next(module for module in modules if module.fqn == page.evaluate(MODULE_NAMES)[0]).weight_bytes == smallest

    page.get_by_role("searchbox").fill("attn.to_q")
    wanted = [module.fqn for module in modules if "attn.to_q" in module.fqn]
    assert sorted(page.evaluate(MODULE_NAMES)) == sorted(wanted)
    assert page.locator("#modules .count").text_content() == f"{len(wanted)} of {len(modules)} modules"

    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "modules.csv")
    with (tmp_path / "modules.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert {line["module"]: int(line["weight_bytes"]) for line in lines} == {
        module.fqn: module.weight_bytes for module in modules
    }


def test_a_click_on_the_heat_map_finds_the_module(page: Page, report: Report) -> None:
    heat = report.runs[0].heat
    assert heat is not None
    drawn = page.locator('.plot[data-figure="heat-copy"] .nsewdrag')
    box = drawn.bounding_box()
    assert box is not None
    drawn.click(position={"x": 30, "y": box["height"] * 0.5 / len(heat.modules)})
    assert page.get_by_role("searchbox").input_value() == heat.modules[0]
    assert page.evaluate(MODULE_NAMES) == [heat.modules[0]]


def test_the_slider_moves_the_break_even_chart_by_keyboard(page: Page, report: Report) -> None:
    line = report.runs[0].total
    assert line is not None
    slider = page.get_by_role("slider")
    before = page.locator("#ranking").text_content()
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#steps-output").text_content() == "29"
    drawn = page.evaluate("document.querySelector('.plot[data-figure=totals]').layout.shapes[0].x0")
    assert drawn == 29
    assert page.locator("#ranking").text_content() != before


def test_the_theme_follows_the_toggle_and_is_kept(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    bar = "document.querySelector('.plot[data-figure=waterfall] .point path').style.fill"
    light, light_bar = page.evaluate(colour), page.evaluate(bar)
    for _ in ("light", "dark"):
        page.locator("#theme").click()
    assert page.locator("#theme").text_content() == "Theme: dark"
    page.wait_for_function(f"{colour} !== '{light}'")
    assert page.evaluate(bar) != light_bar
    page.reload()
    page.wait_for_selector(READY, state="attached")
    assert page.locator("#theme").text_content() == "Theme: dark"


def test_without_scripts_verdict_and_tables_are_there(page_file: Path, report: Report) -> None:
    with opened(page_file, scripts=False) as visit:
        page, run = visit.page, report.runs[0]
        assert page.locator("h1").is_visible()
        assert page.locator(".track").count() == 2
        assert page.locator(".plot:visible").count() == 0
        assert page.locator("button:visible, input:visible").count() == 0
        assert page.locator("table.modules tbody tr").count() == min(60, len(run.summary.modules))
        page.locator("#steps summary").first.click()
        assert page.locator("#steps tbody tr").first.is_visible()
        assert page.evaluate("1") == 1


def test_the_printed_page_has_every_chart(page: Page) -> None:
    pdf = page.pdf(format="A4", print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3


def test_it_fits_on_paper_and_the_screen_has_its_charts_back(page_file: Path, report: Report) -> None:
    assert report.runs[0].plan is not None
    with opened(page_file, theme="dark") as visit:
        page = visit.page
        widths = "[...document.querySelectorAll('.plot')].map(plot => plot.firstChild.scrollWidth)"
        before = page.evaluate(widths)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(widths) != before
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(widths) == before
        assert_prints(page)
        # The ranking says at how many steps.
        assert page.locator("#steps-output").is_visible()


def test_it_links_to_the_timeline_only_where_it_is_served(page_file: Path, page: Page, report: Report) -> None:
    assert page.locator("#open-trace").is_hidden()
    assert page.locator("a.moment:visible").count() == 0
    page.locator("#open-file summary").click()
    assert page.locator("#open-file pre").text_content() == f"tracekit open {report.runs[0].path}"

    page.route("http://127.0.0.1:1/**", lambda route: route.fulfill(path=page_file, content_type="text/html"))
    page.goto("http://127.0.0.1:1/token/report.html")
    page.wait_for_selector(READY, state="attached")
    assert page.locator("#open-trace").is_visible()
    assert page.locator("#open-trace").evaluate("link => link.href") == "http://127.0.0.1:1/token/viewer"
    first = report.runs[0].summary.modules[0].fqn
    moment = report.runs[0].moments[first]
    link = page.locator("table.modules tbody tr a").first.get_attribute("href")
    assert link == f"viewer?start={moment.start_ns}&end={moment.end_ns}"
    page.locator("#steps .links summary").click()
    step = report.runs[0].steps[0]
    link = page.locator("#steps .links a").first.get_attribute("href")
    assert link == f"viewer?start={step.start_ns}&end={step.end_ns}"
