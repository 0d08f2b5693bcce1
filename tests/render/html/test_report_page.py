"""The report's bytes: the same every time, small, closed by policy, and safe whatever a run is called."""

from __future__ import annotations

import base64
import copy
import dataclasses
import gzip
import hashlib
import html.parser
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from builders import build_large_run, build_run
from pages import opened, spaced
from perfetto.browser import chromium

import tracekit
from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.findings import advised
from tracekit.analysis.prediction.planner import make_plan
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.report import build_report
from tracekit.model import RunData, Summary, Timeline
from tracekit.model.finding import Basis, Finding, Gain
from tracekit.model.plan import Drift, Estimate, OffloadPlan, VerifiedRow
from tracekit.model.report import Report
from tracekit.render.html import render_report

ROOT = Path(__file__).parents[3]
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "{{7*7}}", "\x1b[31m\u202e", "a&b\"'c")


def page_of(*runs: RunData) -> str:
    return render_report(report_of(*runs))


def report_of(*runs: RunData) -> Report:
    timelines = [build_timeline(run) for run in runs]
    return build_report([reported(timeline) for timeline in timelines])


def reported(timeline: Timeline) -> tuple[Timeline, Summary, OffloadPlan]:
    predictor = Predictor(timeline)
    summary = advised(timeline, summarize(timeline), predictor)
    return timeline, summary, make_plan(timeline, predictor=predictor)


def unpacked(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">([^<]*)<', page)
    assert found
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


class Tags(html.parser.HTMLParser):
    """Every tag of a page with its attributes, and the texts of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside in self.texts:
            self.texts[self._inside].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_the_same_run_gives_the_same_bytes(run_folder: Path, page_file: Path) -> None:
    page = page_file.read_text(encoding="utf-8")
    assert tracekit.load(run_folder).to_html() == page
    assert tracekit.load(run_folder).write_report(page_file.with_name("again.html")).read_text(encoding="utf-8") == page


def test_a_long_run_stays_small() -> None:
    page = page_of(build_large_run(100_000))
    assert len(page.encode()) < 1_200_000
    data = unpacked(page)
    for name, figure in data["runs"][0]["figures"].items():
        for trace in figure["data"]:
            if name.startswith("heat"):
                rows, columns = (int(part) for part in trace["z"]["shape"].split(","))
                assert rows <= 600
                assert columns <= 60
            else:
                assert len(trace["x"]) <= 2_000


def test_what_was_verified_stands_beside_how_fast_the_machine_was(run_folder: Path) -> None:
    timeline, summary, plan = reported(build_timeline(tracekit.load(run_folder).data))
    about = Estimate(2 * 10**9, 10**9, 3 * 10**9)
    plan.verified = [
        VerifiedRow(configuration="resident", quantity="warm step", predicted=about, measured=10**9, error=1.0)
    ]
    plan.drifts = [Drift(configuration="resident", slower={"page-locking": 1.31})]
    page = spaced(render_report(build_report([(timeline, summary, plan)])))
    assert "just before it, the machine took 1.31 times as long as before the profiled run for page-locking" in page
    assert "+100%" in page


def test_the_policy_allows_exactly_what_is_in_the_page(page_file: Path) -> None:
    page = Tags(page_file.read_text(encoding="utf-8"))
    policy = next(
        attributes["content"]
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = {name: sources.split() for name, _, sources in (rule.partition(" ") for rule in policy.split("; "))}
    assert rules["default-src"] == ["'none'"]
    assert "connect-src" not in rules
    assert "'unsafe-inline'" not in rules["script-src"] + rules["style-src-elem"]
    run = [text for text in page.texts["script"] if not re.fullmatch(r"[A-Za-z0-9+/=]+", text)]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run]
    assert rules["script-src"][:2] == hashes
    assert len(rules["script-src"]) == 3  # and plotly.js, unpacked
    addresses = {
        attributes.get(name) for _, attributes in page.tags for name in ("src", "href") if attributes.get(name)
    }
    assert {address for address in addresses if address and not address.startswith(("#", "data:"))} == {"viewer"}


def test_numbers_stay_with_their_units_but_in_what_is_to_be_copied(page_file: Path) -> None:
    body = page_file.read_text(encoding="utf-8").partition("<main")[2].partition("<script")[0]
    copied = re.compile(r"<(pre|code)>.*?</\1>", re.DOTALL)
    pasted = [found[0] for found in copied.finditer(body)]
    assert len(pasted) > 3
    assert not [text for text in pasted if "\N{NO-BREAK SPACE}" in text]
    prose = re.sub(r"<td>.*?</td>|<[^>]*>", "", copied.sub("", body))
    assert len(re.findall(r"\d\N{NO-BREAK SPACE}(?:ms|s|MB|MiB|[kMG]B/s)\b", prose)) > 10
    assert re.findall(r".*\d (?:ms|s|MB|MiB|[kMG]B/s)\b.*", prose) == []


def test_the_library_is_the_one_that_is_checked() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "build_plotlyjs.py"))
    vendor = ROOT / "tracekit" / "render" / "html" / "vendor"
    library = gzip.decompress((vendor / "plotly.min.js.gz").read_bytes())
    assert hashlib.sha256(library).hexdigest() == script["SHA256"]
    assert f"v{script['VERSION']}\n".encode() in library[:200]
    assert "MIT" in (vendor / "plotly-LICENSE.txt").read_text()


def hostile_report() -> Report:
    """A run whose every text comes from someone who means harm."""
    report = report_of(build_run(workload=HOSTILE[1], pipeline_class=HOSTILE[0]))
    run = report.runs[0]
    run.name, run.path = HOSTILE[0], HOSTILE[1]
    run.manifest.call["prompt"] = " ".join(HOSTILE)
    run.manifest.command = ["tracekit", *HOSTILE]
    run.summary.verdict = run.summary.verdict + " ".join(HOSTILE)
    run.summary.warnings = list(HOSTILE)
    for row, text in zip(run.summary.modules, HOSTILE, strict=False):
        row.fqn = row.module_class = text
    assert run.heat is not None
    run.heat.modules[: len(HOSTILE)] = HOSTILE
    assert run.total is not None
    run.total.name = HOSTILE[0]
    texts = {"title": HOSTILE[0], "evidence": HOSTILE[1], "cost": HOSTILE[2], "code": HOSTILE[1]}
    gains = [Gain(3, 1, 2)]
    run.summary.findings = [
        Finding(slug="pin", gains=gains, basis=Basis.MEASURED, start_ns=1, end_ns=2, command=HOSTILE[3], **texts)
    ]
    return report


def test_hostile_texts_stay_texts() -> None:
    clean, hostile = Tags(page_of(build_run())), Tags(render_report(hostile_report()))
    names = {tag for tag, _ in hostile.tags}
    assert names <= {tag for tag, _ in clean.tags} | {"ol"}
    assert not [attributes for _, attributes in hostile.tags if any(name.startswith("on") for name in attributes)]
    assert len(hostile.texts["script"]) == len(clean.texts["script"])


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium")
def test_hostile_texts_do_nothing_in_a_browser(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_report(hostile_report()), encoding="utf-8")
    with opened(file) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        visit.page.wait_for_timeout(200)
        assert visit.console == []
        assert visit.requests == [file.as_uri()]
        assert visit.page.locator("img").count() == 0
        body = visit.page.locator("body").inner_text()
        assert HOSTILE[0] in body
        assert "{{7*7}}" in body
        assert "\x1b" not in body
        ticks = visit.page.locator('.plot[data-figure="heat-copy"] .ytick text').all_text_contents()
        assert any("<img" in tick or "onerror" in tick for tick in ticks)


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [1440, 420])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_several_runs_are_accessible_though_they_say_the_same(tmp_path: Path, width: int, theme: str) -> None:
    file = tmp_path / "report.html"
    other = dataclasses.replace(build_run(), path="runs/other")
    file.write_text(page_of(build_run(), other), encoding="utf-8")
    with opened(file, width, theme) as visit:
        assert visit.console == []
        assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = Axe().run(visit.page).response["violations"]
        assert [(item["id"], item["nodes"][0]["html"]) for item in found] == []


def test_a_section_without_data_says_what_to_run() -> None:
    run = build_run(steps=1)
    empty = copy.copy(run)
    object.__setattr__(empty, "counters", run.counters.iloc[:0])
    page = page_of(empty)
    assert "It takes two steps or more. To get it: <code>tracekit profile TARGET --steps 4</code>" in page
    assert "Device memory was not sampled." in page
    drawn = {attributes["data-figure"] for _, attributes in Tags(page).tags if "data-figure" in attributes}
    assert drawn == {"steps", "heat-copy", "residency-run", "bandwidth"}


def test_findings_lead_with_what_they_save() -> None:
    page = render_report(hostile_report())
    assert '<span class="tag measured">measured</span>' in page
    assert "1 ns to 2 ns less in 3 steps" in spaced(page)
    assert 'data-start-ns="1" data-end-ns="2"' in page


def test_several_runs_are_beside_each_other() -> None:
    report = report_of(build_run(steps=4), build_run(steps=4, weight_bytes=2_000_000))
    page = render_report(report)
    data = unpacked(page)
    assert len(data["runs"]) == len(data["totals"]) == 2
    bars = data["figures"]["all-steps"]["data"][0]
    assert len(bars["y"]) == 8
    assert set(bars["x"][0]) == {run.name for run in report.runs}
    ids = [attributes["id"] for _, attributes in Tags(page).tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
