"""What to do with a run that shows nothing to change, and the command that profiles again."""

from __future__ import annotations

import dataclasses

import pytest
from builders import build_run, make_manifest

from tracekit.analysis import build_timeline, summarize
from tracekit.analysis.findings import advised
from tracekit.analysis.findings.command import MODE_OPTIONS, again
from tracekit.model import OffloadInfo, RunData
from tracekit.model.finding import NextStep

COMMAND = ["tracekit", "profile", "synthetic:flux-tiny"]


def step_of(run: RunData) -> NextStep:
    """What a run says that nothing is predicted from."""
    timeline = build_timeline(run)
    summary = advised(timeline, summarize(timeline), None)
    assert summary.findings == []
    assert summary.next_step is not None
    return summary.next_step


def test_one_step_needs_more() -> None:
    step = step_of(build_run(steps=1))
    assert "nothing warm to compare with" in step.reason
    assert step.command == "tracekit profile synthetic:flux-tiny --steps 4"


def test_disk_reads_are_to_be_seen_without() -> None:
    step = step_of(build_run(steps=4))
    assert step.reason.startswith("Disk reads took 12.0 ms of step 1")
    assert step.command == "tracekit profile synthetic:flux-tiny --page-cache cached"


def test_what_was_onloaded_once_needs_a_second_call() -> None:
    run = build_run(steps=4)
    quick = dataclasses.replace(run, host_samples=run.host_samples.assign(resident_before=1.0, read_bytes=0))
    step = step_of(quick)
    assert step.reason.startswith("The weights of text_encoder, vae were onloaded once")
    assert step.command == "tracekit profile synthetic:flux-tiny --runs 2"


def test_a_run_without_device_records_is_told_where_to_look() -> None:
    assert step_of(build_run(steps=4, activity="none")).command == "tracekit doctor"


def test_a_run_that_shows_nothing_leads_to_all_that_was_compared() -> None:
    run = build_run(steps=4, runs=2)
    quick = dataclasses.replace(run, host_samples=run.host_samples.assign(resident_before=1.0, read_bytes=0))
    assert step_of(quick).command == f"tracekit plan {run.path}"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/venv/bin/tracekit profile x", "tracekit profile x --steps 4"),
        ("python -m tracekit profile x --steps=1", "tracekit profile x --steps 4"),
        ("python /venv/bin/tracekit profile x --steps 1 --stream", "tracekit profile x --stream --steps 4"),
        ("tracekit profile x --output runs/a --force", "tracekit profile x --steps 4"),
        ("tracekit profile x --json --page-cache cached --vram 9GB", "tracekit profile x --vram 9GB --steps 4"),
        ("python mine.py", ""),
    ],
)
def test_the_command_is_found_however_tracekit_was_started(command: str, expected: str) -> None:
    assert again(make_manifest(command=command.split()), ("--steps",), "--steps 4") == expected


def test_another_mode_starts_without_the_first_ones_options() -> None:
    command = "tracekit profile x --offload=partial --resident-gib 4 --host-memory pinned --vram 12GB"
    manifest = make_manifest(command=command.split())
    assert again(manifest, MODE_OPTIONS, "--offload group --stream") == (
        "tracekit profile x --vram 12GB --offload group --stream"
    )


def test_a_script_sets_its_own_offloading_up() -> None:
    manifest = make_manifest(command=[*COMMAND[:2], "mine.py"], offload=OffloadInfo(mode="script"))
    assert again(manifest, MODE_OPTIONS, "--offload group --stream") == ""
