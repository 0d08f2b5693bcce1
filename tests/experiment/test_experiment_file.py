"""experiment.json from strangers: whatever is wrong with it is one line, and never an exception of another kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from experiments import make_experiment

import tracekit
from tracekit.cli.main import main
from tracekit.errors import RunFolderError
from tracekit.experiment.runner import save
from tracekit.model.experiment import EXPERIMENT_NAME, EXPERIMENT_VERSION

GOOD = make_experiment({"evicted": [(14.0, 4.0), "void"], "cached": [(4.0, 4.0), None]})


def write(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(msgspec.json.encode(GOOD))
    change(data)
    (folder / EXPERIMENT_NAME).write_text(json.dumps(data))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(GOOD, tmp_path)
    assert tracekit.load_experiment(tmp_path) == GOOD
    assert [path.name for path in tmp_path.iterdir()] == [EXPERIMENT_NAME]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data.update(schema_version=EXPERIMENT_VERSION + 1), f"this tracekit reads {EXPERIMENT_VERSION}"),
        (lambda data: data.update(schema_version="1"), "schema_version"),
        (lambda data: data["runs"][0].update(outcome="x" * 1000), "cannot be read"),
        (lambda data: data.pop("plan"), "plan"),
        (lambda data: data["runs"][0].update(outcome="perfect"), "perfect"),
        (lambda data: data["runs"][0].update(arm="../../etc"), "not those that it planned"),
        (lambda data: data["runs"].pop(), "not those that it planned"),
        (lambda data: data["plan"]["contrasts"][0].update(slow="warm"), "no arm 'warm'"),
        (lambda data: data["plan"].update(baseline="warm"), "no arm 'warm'"),
        (lambda data: _rename(data, "../up"), "names"),
        (lambda data: _used(data)["steps"][0].update(wall_ns=-1), "impossible"),
        (lambda data: _used(data)["cold_warm"].update(first_step_ns=10**30), "impossible"),
        (lambda data: _used(data)["steps"][0].update(wall_ns="long"), "wall_ns"),
        (lambda data: _repeat(data), "twice"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, change)
    assert main(["show", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert word in captured.err


def _used(data: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = next(run["summary"] for run in data["runs"] if run["outcome"] == "done")
    return summary


def _rename(data: dict[str, Any], name: str) -> None:
    data["plan"]["arms"][0]["name"] = name
    for turn in (*data["plan"]["turns"], *data["runs"]):
        turn["arm"] = name if turn["arm"] == "evicted" else turn["arm"]
    for pair in data["plan"]["contrasts"]:
        pair.update({side: name for side in ("slow", "fast") if pair[side] == "evicted"})
    data["plan"]["baseline"] = name


def _repeat(data: dict[str, Any]) -> None:
    data["plan"]["turns"].append(data["plan"]["turns"][0])
    data["runs"].append(data["runs"][0])


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", '{"schema_version": 1}', "[" * 100_000, "\x00" * 9, "\ufeff{}"]
)
def test_what_is_no_experiment_at_all_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / EXPERIMENT_NAME).write_text(text)
    with pytest.raises(RunFolderError) as raised:
        tracekit.load_experiment(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_folder_of_the_other_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not an experiment's folder"):
        tracekit.load_experiment(tmp_path)
    save(GOOD, tmp_path)
    with pytest.raises(RunFolderError, match="load_experiment"):
        tracekit.load(tmp_path)


def test_control_characters_of_a_stranger_do_not_reach_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(data: dict[str, Any]) -> None:
        _used(data)["pipeline_class"] = "\x1b[2JFlux"
        data["plan"]["arms"][0]["doc"] = "\x1b[2J"
        data["runs"][-1]["reason"] = data["runs"][0]["reason"] = "\x1b[2J"
        data["plan"]["contrasts"][0]["hypothesis"] = "\x1b[2J"

    write(tmp_path, change)
    assert main(["show", str(tmp_path)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_next_command_names_a_run_that_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def last_line() -> str:
        assert main(["show", str(tmp_path)]) == 0
        return capsys.readouterr().err.splitlines()[-1]

    save(GOOD, tmp_path)
    assert last_line() == f"Next: tracekit report {tmp_path}"
    for name in ("block-0/cached", "block-0/evicted"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").touch()
        assert last_line() == f"Next: tracekit show {tmp_path / name}"
