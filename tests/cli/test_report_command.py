"""``tracekit report`` on folders: where the file goes, what is replaced, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import build_run, write_run

from tracekit.cli.main import main


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", build_run())


def test_a_runs_report_is_in_its_folder_and_made_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    first = (run / "report.html").read_bytes()
    said = capsys.readouterr()
    assert said.out.startswith(f"{run / 'report.html'} (")
    assert said.err == f"Next: tracekit open {run}\n"
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_bytes() == first


def test_several_runs_go_into_one_file_that_is_not_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "other")
    assert main(["report", "run", "other"]) == 0
    assert "sequential (other)" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert main(["report", "run", "other"]) == 2
    assert "report.html exists already" in capsys.readouterr().err
    assert main(["report", "run", "other", "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nothing"], "nothing"), ([], "Missing argument"), (["run", "-o", "no/such/file"], "no/such")],
)
def test_what_cannot_be_is_one_line(
    run: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    assert main(["report", *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
