"""``tracekit compare``: exit codes, and how sides are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import build_run, write_run

from tracekit.cli.main import main

Out = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """before and after (a fifth more time in a warm step), and two folders with two repeats each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, size in {
        "before": 8_000_000, "after": 10_000_000, "many/a1": 8_000_000, "many/a2": 8_100_000,
        "later/b1": 8_050_000, "later/b2": 8_060_000,
    }.items():  # fmt: skip
        write_run(folder / name, build_run(steps=4, weight_bytes=size))
    return folder


def test_a_run_is_no_slower_than_itself(runs: Path, capsys: Out) -> None:
    assert main(["compare", str(runs / "before"), str(runs / "before"), "--fail-above", "0%"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "No regression above 0% and beyond noise."
    assert err.splitlines()[-1] == f"Next: tracekit open --report {runs / 'before'}"


def test_a_regression_beyond_bound_and_noise_is_exit_code_3(runs: Path, capsys: Out) -> None:
    sides = [str(runs / "before"), str(runs / "after")]
    assert main(["compare", *sides, "--fail-above", "5%"]) == 3
    assert "warm step: +21" in capsys.readouterr().out.splitlines()[-1]
    assert main(["compare", *sides, "--fail-above", "50%"]) == 0
    assert main(["compare", *sides]) == 0
    assert main(["compare", *reversed(sides), "--fail-above", "5%"]) == 0


def test_json_is_alone_on_stdout(runs: Path, capsys: Out) -> None:
    assert main(["compare", str(runs / "before"), str(runs / "after"), "--fail-above", "5%", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["fail_above"] == 0.05
    assert err == ""


def test_a_folder_of_runs_is_a_side_of_repeats(runs: Path, capsys: Out) -> None:
    assert main(["compare", str(runs / "many"), str(runs / "later"), "--json", "--fail-above", "5%"]) == 0
    by_folder = json.loads(capsys.readouterr().out)
    sides = [
        "--base",
        runs / "many/a1",
        "--base",
        runs / "many/a2",
        "--with",
        runs / "later/b1",
        "--with",
        runs / "later/b2",
    ]
    assert main(["compare", *map(str, sides), "--json", "--fail-above", "5%"]) == 0
    assert json.loads(capsys.readouterr().out) == by_folder
    assert by_folder["unit"] == "runs"
    assert [row["base_samples"] for row in by_folder["times"]] == [2, 2, 2, 2]


def test_a_page_is_written_and_not_replaced_unasked(runs: Path, tmp_path: Path, capsys: Out) -> None:
    sides, page = [str(runs / "before"), str(runs / "after")], tmp_path / "page.html"
    assert main(["compare", *sides, "--html", str(page)]) == 0
    assert "longer in B" in page.read_text()
    assert f"Page  {page} (" in capsys.readouterr().err
    assert main(["compare", *sides, "--html", str(page)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["compare", *sides, "--html", str(page), "--force", "--json"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["before"], "name two runs"),
        (["before", "after", "many"], "name two runs"),
        (["before", "--with", "after"], "name two runs"),
        (["--base", "before"], "name two runs"),
        (["before", "nowhere"], "not a run folder"),
        (["before", "after", "--fail-above", "5"], "not a percentage"),
        (["before", "after", "--fail-above", "-5%"], "not a percentage"),
        (["before", "after", "--fail-above", "nan%"], "not a percentage"),
    ],
)
def test_bad_input_is_one_line(
    runs: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(runs)
    assert main(["compare", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
