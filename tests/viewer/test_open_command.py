"""``tracekit open`` as a process: what it prints, what it opens, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import build_run, write_run
from sites import write_trace

from tracekit.cli.main import main

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "a run", build_run())


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the command; what still runs at the end is interrupted."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, browser: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tracekit", "open", *map(str, arguments)]
        environment = os.environ | {"BROWSER": browser}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as reply:
        body: bytes = reply.read()
    return body


def test_print_url_prints_one_address_and_ctrl_c_ends_it_well(run: Path, start: Start, tmp_path: Path) -> None:
    process = start(run, "--print-url", browser=note_browser(tmp_path / "opened"))
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    assert b"frontend_bundle.js" in get(url)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    port = url.split(":")[2].split("/")[0]
    assert f"ssh -N -L {port}:127.0.0.1:{port}" in err
    assert err.splitlines()[-1] == f"Next: tracekit show '{run}'"
    assert not (tmp_path / "opened").exists()
    assert "Traceback" not in err
    with pytest.raises(urllib.error.URLError):
        get(url)


def note_browser(notes: Path) -> str:
    """A browser that notes the address that it was given, and ends: a page that never says that it is there."""
    program = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    return f"{shlex.join([sys.executable, '-c', program, str(notes)])} %s"


def test_the_browser_gets_the_address_and_stdout_stays_empty(run: Path, start: Start, tmp_path: Path) -> None:
    notes = tmp_path / "opened"
    process = start(run, browser=note_browser(notes))
    assert process.stderr is not None
    assert "There is no trace" in process.stderr.readline()
    assert process.stderr.readline() == f"Serving {run}; Ctrl-C ends it.\n"
    assert b"frontend_bundle.js" in get(notes.read_text())
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 0
    assert (run / "trace.json.gz").stat().st_size > 1000


def test_it_ends_by_itself_when_the_page_is_gone(run: Path, start: Start) -> None:
    process = start(run, "--print-url")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    held = urllib.request.urlopen(url.replace("/viewer", "/alive"), timeout=20)  # as its page does
    held.close()
    assert process.wait(timeout=60) == 0


def test_a_report_in_the_folder_is_served_as_it_is(run: Path, start: Start) -> None:
    (run / "report.html").write_text("<html><body>the report</body></html>")
    process = start(run, "--report", "--print-url")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.endswith("/report.html")
    assert b"the report" in get(url)
    assert b"frontend_bundle.js" in get(url.replace("report.html", "viewer?start=1&end=2"))


def test_a_trace_alone_can_be_anywhere(tmp_path: Path, start: Start) -> None:
    write_trace(tmp_path / "somebody's.json.gz")
    process = start(tmp_path / "somebody's.json.gz", "--print-url")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    trace = url.replace("/viewer", "/trace/somebody-s.json.gz")
    assert get(trace) == (tmp_path / "somebody's.json.gz").read_bytes()


def test_what_cannot_be_opened_is_said_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.json").touch()
    (tmp_path / "secret").write_text("secret")
    write_trace(tmp_path / "trace.json.gz")
    (run / "trace.json.gz").symlink_to(tmp_path / "secret")
    for arguments, words in (
        (["nowhere"], "not a run folder"),
        ([str(tmp_path)], "not a run folder"),
        ([str(tmp_path / "empty.json")], "no trace"),
        ([str(tmp_path / "trace.json.gz"), "--report"], "no report"),
        ([str(run)], "link to another file"),
    ):
        assert main(["open", *arguments, "--print-url"]) == 2
        out, err = capsys.readouterr()
        assert words in err
        assert (out, err.count("\n")) == ("", 1)


def test_several_runs_open_as_their_report_and_each_leads_to_its_own_trace(
    run: Path, tmp_path: Path, start: Start
) -> None:
    other = write_run(tmp_path / "another" / "a run", build_run(steps=4))
    process = start(run, other, "--print-url")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.endswith("/report.html")
    assert b"2 runs" in get(url)
    root = url.removesuffix("/report.html")
    names = [get(f"{root}/trace/{index}/a-run") for index in (0, 1)]
    assert names[0] == (run / "trace.json.gz").read_bytes()
    assert names[1] == (other / "trace.json.gz").read_bytes()
    assert names[0] != names[1]


def test_an_experiments_folder_opens_its_report(tmp_path: Path, start: Start) -> None:
    (tmp_path / "experiment.json").write_text("{}")
    (tmp_path / "report.html").write_text("<html><body>the verdicts</body></html>")
    process = start(tmp_path, "--print-url")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert b"the verdicts" in get(url)
    # It has no trace of its own.
    with pytest.raises(urllib.error.HTTPError):
        get(url.replace("report.html", "viewer?start=1&end=2"))
