"""The last line of every command is one that works when it is pasted: it parses, and what it names is there."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from tracekit.cli.main import group, main

PROFILE = (
    "profile", "synthetic:flux-tiny", "--steps", "2", "--height", "32", "--width", "32", "--device", "emulated",
    "--no-report", "--no-trace",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, named as awkwardly as folders are."""
    folder = tmp_path_factory.mktemp("next")
    assert main([*PROFILE, "--output", str(folder / "a run")]) == 0
    shutil.copytree(folder / "a run", folder / "more" / "second")
    return folder


@pytest.fixture
def here(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(runs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def next_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command's last line says to run, without `tracekit`, after it was parsed as when it is run."""
    capsys.readouterr()
    assert main(arguments) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Next: tracekit ")
    command, *words = shlex.split(last.removeprefix("Next: tracekit "))
    found = group.get_command(group.make_context("tracekit", [command]), command)
    assert found is not None
    found.make_context(command, list(words))
    return [command, *words]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "a run"], ["open", "a run", "--report"]),
        (["export", "a run"], ["show", "a run"]),
        (["report", "a run"], ["open", "a run"]),
        (["report", "a run", "more/second", "-o", "both.html"], ["open", "a run", "more/second"]),
        (["compare", "a run", "more/second"], ["open", "--report", "more/second"]),
        # A side may be a folder of runs, which `open` does not take.
        (["compare", "a run", "more"], ["open", "--report", "more/second"]),
        (["plan", "a run"], ["plan", "a run", "--verify", "3"]),
        (
            ["plan", "a run", "--vram", "4GiB", "--ram", "12GB", "--steps", "2,4"],
            ["plan", "a run", "--vram", "4GiB", "--ram", "12GB", "--steps", "2,4", "--verify", "3"],
        ),
        (["list"], ["profile", "synthetic:flux-tiny", "--offload", "sequential"]),
        (["checkpoint", "flux-tiny", "a pipeline"], ["profile", "a pipeline", "--offload", "sequential"]),
        ([*PROFILE, "--output", "third"], ["open", "third", "--report"]),
    ],
)  # fmt: skip
def test_it_names_what_is_there(
    here: Path, arguments: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert next_words(arguments, capsys) == expected
    paths = [word for word in expected[1:] if (here / word.split("/")[0]).exists()]
    assert all((here / path).exists() for path in paths)
    assert paths or expected[1].startswith("synthetic:")


@pytest.mark.parametrize("mode", ["script", "imported"])
def test_a_plan_that_cannot_be_verified_does_not_say_so(
    here: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((here / "a run/manifest.json").read_text())
    manifest["offload"] = {"mode": mode, "options": {}}
    (here / "a run/manifest.json").write_text(json.dumps(manifest))
    assert next_words(["plan", "a run"], capsys) == ["report", "a run"]
    assert main(["plan", "a run", "--verify", "1"]) == 2
    assert "cannot verify" in capsys.readouterr().err
