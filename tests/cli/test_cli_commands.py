"""Every command on a real run: exit codes, what goes to stdout, and what the last line says."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tracekit.api import load
from tracekit.cli.main import main


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """The command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tracekit", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, folder: Path) -> Answer:
    process = start(*arguments, folder=folder)
    out, err = process.communicate()
    return Answer(process.returncode, out, err)


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """The command within this process: importing torch anew for each would take minutes."""

    def call_main(*arguments: str) -> Answer:
        capfd.readouterr()
        return Answer(main(arguments), *capfd.readouterr())

    return call_main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_one_line(answer: Answer, code: int, word: str) -> None:
    """The command failed with this exit code, saying why on one line of stderr and nothing on stdout."""
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert answer.err.startswith("tracekit: ")
    assert answer.err.count("\n") == 1
    assert word in answer.err


def left_in(folder: Path) -> list[Path]:
    """What a failed command left behind; the empty parent of run folders is no harm."""
    return [path for path in folder.rglob("*") if path.name != "runs"]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A folder where a built-in pipeline was profiled into ``out`` with ``--json``, and how that went."""
    folder = tmp_path_factory.mktemp("profiled")
    arguments = "profile synthetic:sdxl-tiny --offload sequential --steps 2 --device emulated --output out --json"
    answer = run(*arguments.split(), folder=folder)
    assert answer.code == 0, answer.err
    return folder, answer


@pytest.fixture
def beside(profiled: tuple[Path, Answer], monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, made the current one."""
    monkeypatch.chdir(profiled[0])
    return profiled[0]


def test_profile_ends_with_verdict_paths_and_the_next_command(profiled: tuple[Path, Answer]) -> None:
    summary = json.loads(profiled[1].out)
    assert [row["step_index"] for row in summary["steps"]] == [0, 1]
    error = profiled[1].err
    assert summary["verdict"] in " ".join(error.split())
    lines = error.splitlines()
    assert lines[-4] == "Run    out"
    assert lines[-3].startswith("Trace  out/trace.json.gz (")
    assert lines[-2].startswith("Report out/report.html (")
    assert lines[-1] == "Next: tracekit open out --report"
    assert [line.partition(" done")[0] for line in lines if line.startswith("step ")][:2] == ["step 1", "step 2"]
    assert "\x1b" not in error
    assert max(map(len, lines)) <= 80


def test_show_answers_on_stdout(profiled: tuple[Path, Answer], beside: Path, call: Call) -> None:
    text = call("show", "out")
    assert (text.code, text.err) == (0, "\nNext: tracekit open out --report\n")
    assert json.loads(profiled[1].out)["verdict"] in " ".join(text.out.split())
    as_json = call("show", "out", "--json")
    assert json.loads(as_json.out) == json.loads(profiled[1].out)
    assert (as_json.code, as_json.err) == (0, "")


def test_export_writes_the_trace_again(beside: Path, call: Call) -> None:
    whole = call("export", "out", "-o", "whole.json.gz")
    part = call("export", "out", "-o", "part.json.gz", "--only-steps", "0")
    assert (whole.code, part.code) == (0, 0), whole.err + part.err
    assert whole.out.startswith("whole.json.gz (")
    assert whole.err == "Next: tracekit show out\n"
    texts = [gzip.decompress(Path(name).read_bytes()) for name in ("whole.json.gz", "part.json.gz")]
    counts = [len(json.loads(text)["traceEvents"]) for text in texts]
    assert counts[0] > counts[1] > 0

    assert_one_line(call("export", "out", "-o", "part.json.gz"), 2, "--force")
    assert call("export", "out", "-o", "part.json.gz", "--force").code == 0
    assert gzip.decompress(Path("part.json.gz").read_bytes()) == texts[0]
    assert_one_line(call("export", "out", "--only-steps", "7", "-o", "x.gz"), 2, "step")
    assert not Path("x.gz").exists()


def test_export_replaces_the_run_folders_own_trace(beside: Path, call: Call) -> None:
    before = Path("out/trace.json.gz").read_bytes()
    Path("out/trace.json.gz").write_bytes(b"")
    assert call("export", "out").out.startswith("out/trace.json.gz (")
    assert gzip.decompress(Path("out/trace.json.gz").read_bytes()) == gzip.decompress(before)


def test_a_run_folder_is_not_overwritten(beside: Path, call: Call) -> None:
    before = Path("out/manifest.json").read_bytes()
    answer = call("profile", "synthetic:sdxl-tiny", "--device", "emulated", "--output", "out")
    assert_one_line(answer, 2, "--force")
    assert Path("out/manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("profile synthetic:no-such", "flux-tiny"),
        ("profile no-such-folder", "no-such-folder"),
        ("profile .", "model_index"),
        ("profile synthetic:sdxl-tiny --dtype float13", "float13"),
        ("profile synthetic:sdxl-tiny --call no_such_argument=1", "no_such_argument"),
        ("profile synthetic:sdxl-tiny --device cpu", "cpu"),
        ("profile synthetic:sdxl-tiny --device emulated --offload group --stream", "stream"),
        ("profile synthetic:sdxl-tiny --offload model --host-memory pinned", "pinned"),
        ("profile synthetic:sdxl-tiny --offload partial", "--resident-gib"),
        ("profile synthetic:sdxl-tiny --offload partial --resident-gib 2 --vram 1GiB", "above the device's cap"),
        ("show no-such-run", "no-such-run"),
        ("export .", "run folder"),
        ("checkpoint no-such new", "flux-tiny"),
        ("checkpoint flux-tiny .", "exists"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(here: Path, call: Call, command: str, word: str) -> None:
    assert_one_line(call(*command.split()), 2, word)
    assert left_in(here) == []


def test_what_cannot_fit_under_the_cap_is_one_line(tmp_path: Path) -> None:
    arguments = "profile synthetic:sdxl-tiny --device emulated --offload resident --vram 1MB"
    assert_one_line(run(*arguments.split(), folder=tmp_path), 2, "fit")
    assert left_in(tmp_path) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_line(here: Path, call: Call) -> None:
    assert_one_line(call("profile", "synthetic:sdxl-tiny", "--device", "cuda"), 4, "CUDA")
    assert left_in(here) == []


def test_ctrl_c_ends_a_profile_with_130_and_a_readable_run(tmp_path: Path, call: Call) -> None:
    arguments = "profile synthetic:sdxl-tiny --steps 1000 --device emulated --output out"
    process = start(*arguments.split(), folder=tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 2 "):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "tracekit: interrupted"
    assert "Traceback" not in err
    summary = json.loads(call("show", str(tmp_path / "out"), "--json").out)
    assert summary["complete"] is False
    assert len(summary["steps"]) >= 2


def test_a_scripts_pipeline_calls_are_profiled(tmp_path: Path, call: Call) -> None:
    assert call("checkpoint", "sdxl-tiny", str(tmp_path / "pipeline")).code == 0
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "from diffusers import DiffusionPipeline\n"
        "pipeline = DiffusionPipeline.from_pretrained('pipeline')\n"
        "pipeline.enable_sequential_cpu_offload(device='emulated')\n"
        "pipeline('a cat', num_inference_steps=int(sys.argv[2]), height=64, width=64)\n"
        "print('the script is done')\n"
        "sys.exit(3)\n"
    )
    arguments = ["profile", "--device", "emulated", "--output", "out", "script.py", "--steps", "2"]
    answer = run(*arguments, folder=tmp_path)
    assert (answer.code, answer.out) == (3, "the script is done\n"), answer.err
    summary = json.loads(call("show", str(tmp_path / "out"), "--json").out)
    assert [row["h2d_bytes"] > 0 for row in summary["steps"]] == [True, True]
    # The calibration, which calls accelerate's hooks, begins when they are patched already.
    spans = load(tmp_path / "out").spans
    own = spans[spans["name"] == "calibrate"].iloc[0]
    inside = (spans["start_ns"] >= own["start_ns"]) & (spans["end_ns"] <= own["end_ns"])
    assert spans.loc[inside, "name"].tolist() == ["calibrate"]


def test_checkpoint_names_the_next_command(here: Path, call: Call) -> None:
    answer = call("checkpoint", "sdxl-tiny", "a folder")
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert (here / "a folder" / "model_index.json").exists()
    assert answer.err.splitlines()[-1] == "Next: tracekit profile 'a folder' --offload sequential"


def test_list_answers_on_stdout(call: Call) -> None:
    answer = call("list")
    assert answer.code == 0
    assert "  sequential  " in answer.out
    assert "  synthetic:flux-tiny  " in answer.out
    assert answer.err.startswith("Next: tracekit profile synthetic:")
