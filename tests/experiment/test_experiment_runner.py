"""Real experiments on the emulated device: interrupted, resumed, void and failed arms, budgets."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from experiments import S, make_experiment

import tracekit
from tracekit.cli.main import main
from tracekit.errors import UsageError
from tracekit.experiment.paging import paging_plan
from tracekit.experiment.runner import run_experiment, save
from tracekit.model.experiment import Arm, Experiment, Outcome, Plan, Turn, TurnProgress

EXPERIMENT_WORDS = ("--arms", "evicted,cached", "--repeats", "2", "--steps", "2", "--device", "emulated")


class Story(NamedTuple):
    """An experiment that was interrupted in its second arm, and then resumed with the command that it named."""

    folder: Path
    at_interrupt: Experiment
    code: int
    err: str
    first_arm_ns: int
    resumed: Experiment
    resumed_err: str
    first_arm_after_ns: int


def wait_for(condition: Iterator[bool], seconds: float = 120) -> None:
    """Poll something that another process does."""
    deadline = time.monotonic() + seconds
    for holds in condition:
        if holds:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(folder: Path) -> Iterator[bool]:
    """Whether the first arm is done and the second has made its run folder."""
    while True:
        file = folder / "experiment.json"
        done = file.exists() and sum(run["outcome"] == "done" for run in json.loads(file.read_text())["runs"]) == 1
        yield done and len(list(folder.glob("block-*/*/manifest.json"))) == 2


@pytest.fixture(scope="module")
def story(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("experiment") / "paging"
    words = ["experiment", "paging", str(checkpoint), *EXPERIMENT_WORDS, "--output", str(folder)]
    child = subprocess.Popen(
        [sys.executable, "-m", "tracekit", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(states(folder))
    # To the command alone, as kill -INT does: its child must be ended by it.
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    at_interrupt = tracekit.load_experiment(folder)
    first = at_interrupt.plan.turns[0]
    manifest = folder / f"block-{first.block}" / first.arm / "manifest.json"
    before_ns = manifest.stat().st_mtime_ns

    program, *resume = shlex.split(err.splitlines()[-1])
    assert program == "tracekit"
    done = subprocess.run([sys.executable, "-m", "tracekit", *resume], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resumed = tracekit.load_experiment(folder)
    return Story(
        folder, at_interrupt, child.returncode, err, before_ns, resumed, done.stderr, manifest.stat().st_mtime_ns
    )


def test_an_interrupted_experiment_keeps_its_finished_arm_and_says_how_to_go_on(story: Story) -> None:
    assert story.code == 130
    assert "--resume" in story.err.splitlines()[-1]
    assert "Traceback" not in story.err
    assert [run.outcome for run in story.at_interrupt.runs] == [Outcome.DONE, *[Outcome.PLANNED] * 3]


def test_the_interrupted_arms_process_has_ended(story: Story) -> None:
    alive = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(story.folder) not in alive


def test_resuming_runs_what_is_left_and_nothing_again(story: Story) -> None:
    assert [run.outcome for run in story.resumed.runs] == [Outcome.DONE] * 4
    assert story.resumed.runs[0] == story.at_interrupt.runs[0]
    assert story.first_arm_after_ns == story.first_arm_ns
    assert story.resumed.plan == story.at_interrupt.plan
    # The interrupted arm's folder was half a run; now it is a whole one.
    second = story.resumed.plan.turns[1]
    assert tracekit.load(story.folder / f"block-{second.block}" / second.arm).manifest.complete


def test_an_evicted_arm_pages_and_a_cached_one_does_not(story: Story) -> None:
    for run in story.resumed.runs:
        assert run.summary is not None
        assert run.summary.paging is not None
        mapped, read = run.summary.paging.mapped_bytes, run.summary.paging.first_read_bytes
        share = run.summary.conditions.resident_share
        assert share is not None
        if run.arm == "evicted":
            assert share < 0.05
            # Read-ahead brings neighbours in, and what is not a weight's page is not evicted.
            assert 0.6 * mapped < read < 2 * mapped
        else:
            assert share > 0.95
            assert read < 0.02 * mapped


def test_what_an_experiment_keeps_of_a_run_is_small(story: Story) -> None:
    size = (story.folder / "experiment.json").stat().st_size
    assert size < 60_000 * len(story.resumed.runs)
    assert all(run.summary is not None and not run.summary.modules for run in story.resumed.runs)


def test_a_finished_experiment_is_shown_from_its_small_file_alone(
    story: Story, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(story.resumed, tmp_path)
    assert main(["show", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "OS paging" in captured.out
    assert "emulated device" in captured.out
    assert main(["show", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [row["used"] for row in summary["arms"] if not row["left_out"]] == [2, 2]


def test_a_finished_experiment_resumes_to_nothing(story: Story, tmp_path: Path) -> None:
    save(story.resumed, tmp_path)
    told: list[TurnProgress] = []
    assert run_experiment(story.resumed.plan, tmp_path, resume=True, on_turn=told.append) == story.resumed
    assert told == []


def test_blocks_are_added_and_none_are_lost(story: Story, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    shutil.copytree(story.folder, folder)
    plan = story.resumed.plan
    names = ("evicted", "cached")
    longer = paging_plan(plan.workload, plan.options, emulated=True, arms=names, repeats=3)
    grown = run_experiment(longer, folder, resume=True, seconds=0)
    assert grown.runs[:4] == story.resumed.runs
    assert [(run.block, run.outcome) for run in grown.runs[4:]] == [(2, Outcome.PLANNED)] * 2
    assert tracekit.load_experiment(folder) == grown
    with pytest.raises(UsageError, match="has an experiment of 3 blocks: resume it with --repeats 3 or more"):
        run_experiment(plan, folder, resume=True)


def test_a_void_and_a_failed_arm_are_recorded_and_the_others_go_on(checkpoint: Path, tmp_path: Path) -> None:
    arms = [
        # A cast takes the weights out of the mmapped file: there is nothing to evict.
        Arm(name="cast", doc="", options=["--dtype", "bfloat16", "--page-cache", "evicted"]),
        Arm(name="pinned", doc="", options=["--host-memory", "pinned"]),
        Arm(name="plain", doc="", options=[]),
    ]
    plan = Plan(
        name="odd",
        workload=str(checkpoint),
        options=["--device", "emulated", "--steps", "1"],
        arms=arms,
        turns=[Turn(block=0, arm=arm.name) for arm in arms],
    )
    told: list[TurnProgress] = []
    experiment = run_experiment(plan, tmp_path / "odd", on_turn=told.append)
    assert [run.outcome for run in experiment.runs] == [Outcome.VOID, Outcome.FAILED, Outcome.DONE]
    assert "no weight lies in a mapped file" in experiment.runs[0].reason
    assert "page-locked" in experiment.runs[1].reason
    assert "page-locked" in (tmp_path / "odd" / "block-0" / "pinned.log").read_text()
    assert [turn.outcome for turn in told[1::2]] == [run.outcome for run in experiment.runs]
    assert [turn.left_ns is None for turn in told] == [True, False, False, False, False, False]
    assert tracekit.load_experiment(tmp_path / "odd") == experiment


def test_a_killed_arm_says_by_what(checkpoint: Path, tmp_path: Path) -> None:
    plan = Plan(
        name="killed",
        workload=str(checkpoint),
        options=[],
        arms=[Arm(name="only", doc="", options=[])],
        turns=[Turn(block=0, arm="only")],
    )
    # As the kernel does when memory runs out.
    experiment = run_experiment(plan, tmp_path / "killed", launcher=["sh", "-c", "kill -9 $$"])
    assert experiment.runs[0].outcome == Outcome.FAILED
    assert "SIGKILL" in experiment.runs[0].reason


def test_a_turn_that_does_not_fit_into_the_time_left_is_not_begun(checkpoint: Path, tmp_path: Path) -> None:
    plan = paging_plan(str(checkpoint), [], arms=["evicted", "cached"], repeats=2)
    begun = make_experiment({"evicted": [None, (1.0, 1.0)], "cached": [None, (1.0, 1.0)]}, plan)
    save(begun, tmp_path)
    told: list[TurnProgress] = []
    # Each of the finished arms took 30 s.
    left = run_experiment(plan, tmp_path, resume=True, seconds=29, on_turn=told.append, clock=lambda: 5 * S)
    assert told == []
    assert left == begun


def test_another_plans_experiment_is_not_resumed(tmp_path: Path) -> None:
    save(make_experiment({"evicted": [None] * 2, "cached": [None] * 2}), tmp_path)
    other = paging_plan("w", ["--steps", "5"], arms=["evicted", "cached"], repeats=2)
    with pytest.raises(UsageError, match=r"other options \(--steps 4\)") as raised:
        run_experiment(other, tmp_path, resume=True)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    plan = paging_plan("w", [], arms=["evicted", "cached"])
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="no experiment"):
        run_experiment(plan, tmp_path, resume=True)
    save(make_experiment({"evicted": [None], "cached": [None]}), tmp_path)
    with pytest.raises(UsageError, match="--resume"):
        run_experiment(plan, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (("no/such/folder",), 2, "no/such/folder"),
        (("synthetic:flux-tiny", "--arms", "warm"), 2, "'warm'"),
        (("synthetic:flux-tiny", "--arms", "evicted"), 2, "compare nothing"),
        (("synthetic:flux-tiny", "--offload", "resident"), 2, "resident"),
        (("synthetic:flux-tiny", "--resident-gib", "1"), 2, "--offload partial"),
        (("synthetic:flux-tiny", "--device", "cpu"), 2, "cpu"),
        (("synthetic:flux-tiny", "--repeats", "0"), 2, "--repeats"),
    ],
)
def test_wrong_input_is_one_line(
    words: tuple[str, ...], code: int, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = () if "--device" in words else ("--device", "emulated")
    folder = tmp_path / "new"
    assert main(["experiment", "paging", *words, *device, "--output", str(folder)]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("Left out")]
    assert len(lines) == 1
    assert word in lines[0]
    assert not (folder / "experiment.json").exists()


def test_without_an_experiments_name_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment"]) == 0
    assert "paging" in capsys.readouterr().out
