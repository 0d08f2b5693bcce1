"""The reproduction's arithmetic, plans and page, on made-up results."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiments import make_experiment

from tracekit.cli.profile import command as profile
from tracekit.experiment.runner import save
from tracekit.model.causes import Cause
from tracekit.model.experiment import Experiment

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "reproduce_post"


class Reproduction:
    """The script's modules, which are no part of the package."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"reproduction.{name}")


@pytest.fixture(scope="module")
def reproduction() -> Iterator[Reproduction]:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        yield Reproduction()
    finally:
        sys.path.remove(str(SCRIPT.parent))


def run_all(reproduction: Reproduction) -> dict[str, Experiment]:
    """Every part, each arm of it with times like the H100's."""
    plans = reproduction.plans.plans(reproduction.plans.Setup(), emulated=False)
    seconds = {
        "streamed": (14.0, 4.0), "smallest": (10.9, 2.7), "largest": (9.3, 2.6), "evicted": (14.2, 4.3),
        "cached": (4.2, 4.1), "mapped": (4.1, 4.1), "anonymous": (5.7, 4.0), "pinned": (1.3, 0.95),
        "no": (4.2, 4.0), "kernels": (3.9, 4.1), "limited": (17.6, 18.8), "group": (1.3, 0.55),
    }  # fmt: skip
    return {
        part: make_experiment(
            {
                arm.name: [seconds[re.split("-", arm.name)[0]]] * (1 + max(turn.block for turn in plan.turns))
                for arm in plan.arms
            },
            plan,
        )
        for part, plan in plans.items()
    }


def test_the_posts_numbers(reproduction: Reproduction) -> None:
    post = reproduction.arithmetic
    assert post.first_step_s(post.STREAMED) == 110
    assert post.first_step_s(post.RESIDENT) == 116.5
    # "the first iteration constituted nearly 95% of the total time"
    assert post.first_share(post.RESIDENT) == pytest.approx(0.94, abs=0.005)
    assert post.cold_rate(post.RESIDENT) == pytest.approx(0.19, abs=0.005)
    assert (post.warm_rate(post.STREAMED), post.warm_rate(post.RESIDENT)) == (5.5, 5.6)
    assert post.expected_total_10_s(post.STREAMED) == 146
    assert post.expected_total_10_s(post.RESIDENT) == 139
    assert post.implied_warm_rate(post.STREAMED) == pytest.approx(post.implied_warm_rate(post.RESIDENT), rel=0.03)


def test_every_cause_has_a_colour_of_its_own(reproduction: Reproduction) -> None:
    colours = reproduction.bars.COLOURS
    assert list(colours) == list(Cause)
    assert len(set(colours.values())) == len(colours)


def test_every_arms_options_are_those_of_profile(reproduction: Reproduction) -> None:
    for plan in reproduction.plans.plans(reproduction.plans.Setup(), emulated=False).values():
        for arm in plan.arms:
            profile.make_context("profile", [plan.workload, *plan.options, *arm.options])


def test_the_posts_runs_are_all_there_and_each_twice_in_sequence(reproduction: Reproduction) -> None:
    plan = reproduction.plans.plans(reproduction.plans.Setup(), emulated=False)["post"]
    names = [turn.arm for turn in plan.turns]
    assert len(names) == 3 * 2 * 2
    for first, second in zip(names[::2], names[1::2], strict=True):
        assert first.removesuffix("-first") == second.removesuffix("-second")
    evicted = {arm.name for arm in plan.arms if "evicted" in arm.options}
    assert evicted == set(names[::2])


def test_the_page_without_results_says_so_everywhere(reproduction: Reproduction) -> None:
    results = reproduction.results.Results({})
    text = reproduction.page.page(results)
    for title in re.findall(r"^## (.*)$", text, re.MULTILINE):
        if title not in ("What the post's own numbers imply", "What could not be measured", "Make it again"):
            body = text.split(f"## {title}\n")[1].split("\n## ")[0]
            assert "not measured yet" in body, title
    assert all(point.holds == "not measured yet" for point in reproduction.points.points(results))
    ElementTree.fromstring(reproduction.page.figure(results))


def test_the_page_follows_the_results(reproduction: Reproduction) -> None:
    results = reproduction.results.Results(run_all(reproduction))
    text = reproduction.page.page(results)
    assert "not measured yet" not in text
    assert "90.0" not in text
    holds = {point.said[:30]: point.holds for point in reproduction.points.points(results)}
    assert holds["A guess: OS paging."] == "supported"
    assert holds["A guess: PyTorch caching."] == "refuted"
    assert holds["Later iterations do not incur a heavy I"[:30]] == "does not hold"
    assert holds["Later steps are faster with 8 "] == "holds"
    # 14 + 3 x 4 against 9.3 + 3 x 2.6; set-up is 7 s in each.
    assert "24.1 s against 33.0 s" in text
    assert holds["With 8 GB resident, 4 steps took 124 s"[:30]] == "does not hold"
    assert "make it 950 ms, 4.2 times faster, for a set-up of 7.00 s" in text
    assert "4.2 times faster than everything streamed" in text
    # Each row of a table has as many cells as its heading.
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_other_results_make_another_page(reproduction: Reproduction) -> None:
    parts = run_all(reproduction)
    for run in parts["experiment"].runs:
        if run.arm == "evicted":
            cached = next(other for other in parts["experiment"].runs if other.arm == "cached")
            run.summary = cached.summary
    points = reproduction.points.points(reproduction.results.Results(parts))
    assert next(point for point in points if point.said == "A guess: OS paging.").holds == "refuted"


def test_what_is_resident_is_read_from_disk_as_well(reproduction: Reproduction) -> None:
    parts = run_all(reproduction)
    for run in parts["post"].runs:
        assert run.summary is not None
        if run.arm == "streamed-4-first":
            for row in run.summary.causes:
                row.cause = Cause.DISK if row.cause == Cause.LINK else row.cause
        if run.arm == "largest-4-first":
            assert run.summary.paging is not None
            run.summary.paging.first_read_bytes = 600  # of 1,000
    first, *_ = reproduction.points.points(reproduction.results.Results(parts))
    # 0.4 of the 12.6 s that the disk took in step 1.
    assert first.measured.startswith("29.1 s against 33.0 s")
    assert "the disk is 38%" in first.measured


def test_the_figure_has_a_bar_for_each_step(reproduction: Reproduction) -> None:
    svg = ElementTree.fromstring(reproduction.page.figure(reproduction.results.Results(run_all(reproduction))))
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("14.00 s") == 2  # the made-up first and second run alike
    assert "limited, later step" in texts
    for rect in svg.iter("{http://www.w3.org/2000/svg}rect"):
        right = float(rect.get("x", 0)) + float(rect.get("width", 0))
        assert right <= float(svg.get("viewBox", "").split()[2])


def test_the_page_is_made_from_the_small_files_alone(reproduction: Reproduction, tmp_path: Path) -> None:
    for part, experiment in run_all(reproduction).items():
        (tmp_path / "out" / part).mkdir(parents=True)
        save(experiment, tmp_path / "out" / part)
    done = subprocess.run(
        [sys.executable, SCRIPT, "--only", "page", "--output", tmp_path / "out", "--page", tmp_path / "page"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "page").iterdir()} == {
        "README.md", "steps.svg", "post.json", "experiment.json", "instead.json", "limits.json",
    }  # fmt: skip


def test_finished_parts_are_recognised_and_nothing_runs_again(reproduction: Reproduction, tmp_path: Path) -> None:
    setup = reproduction.plans.Setup(pipeline="synthetic:flux-tiny", device="emulated")
    plan = reproduction.plans.plans(setup, emulated=True)["instead"]
    (tmp_path / "instead").mkdir()
    save(make_experiment({arm.name: [(2.0, 1.0)] for arm in plan.arms}, plan), tmp_path / "instead")
    before = (tmp_path / "instead" / "experiment.json").read_bytes()
    words = ["--only", "instead", "--output", tmp_path, "--page", tmp_path / "page"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words, "--pipeline", setup.pipeline, "--device", setup.device],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "instead" / "experiment.json").read_bytes() == before
    assert "block 1" not in done.stderr


def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--output", tmp_path / "out", "--page", tmp_path / "page"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "CUDA" in done.stderr


def test_where_memory_cannot_be_limited_the_reason_is_given(reproduction: Reproduction, tmp_path: Path) -> None:
    cgroup = reproduction.cgroup
    with pytest.raises(cgroup.CannotLimitError, match="no cgroup v2"), cgroup.limited_memory(1, tmp_path):
        pass
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    # A folder is no cgroup: nothing can be switched on in it, and no process joins.
    with pytest.raises(cgroup.CannotLimitError, match="a memory limit"), cgroup.limited_memory(1, tmp_path):
        pass
    assert not (tmp_path / cgroup.NAME).exists()
