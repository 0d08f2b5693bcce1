"""``tracekit plan`` on a real run: what it prints, keeps and refuses, and a plan that is verified by running it."""

from __future__ import annotations

import json
import mmap
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from disks import on_disk

from tracekit.api import load
from tracekit.api.plan import plan as plan_of
from tracekit.capture.residency import Residency
from tracekit.cli.main import main
from tracekit.errors import ExitCode
from tracekit.experiment import process, verification
from tracekit.experiment.verification import compare
from tracekit.model.experiment import ArmRun, Outcome
from tracekit.model.plan import Configuration, Drift, Estimate, OffloadPlan, Prediction, VerifiedRow
from tracekit.runfolder.plans import read_plan
from tracekit.workload.pipeline import find_folder

PROFILE = ("profile", "synthetic:flux-tiny", "--steps", "3", "--height", "32", "--width", "32", "--device", "emulated")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # In a process of its own: what other tests left on the device would count as the run's own memory.
    folder = tmp_path_factory.mktemp("plan") / "run"
    words = [sys.executable, "-m", "tracekit", *PROFILE, "--no-trace", "--output", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
    return folder


def test_a_plan_is_printed_within_80_columns_and_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(run), "--vram", "64MiB", "--steps", "4,10"]) == ExitCode.OK
    printed = capsys.readouterr().out
    before_code, _, code = printed.partition("to paste:")
    assert max(map(len, before_code.splitlines())) <= 80
    compile(code, "<pasted>", "exec")
    assert "resident: does not fit, " in " ".join(before_code.split())
    assert "of device memory too much" in " ".join(before_code.split())
    # What streams slowest per byte is a norm's weights of a few bytes.
    (slowest,) = re.findall(r"\(streams at (\S+ \S+)\) first", " ".join(before_code.split()))
    assert slowest.endswith((" MB/s", " kB/s"))
    totals = before_code.partition("total of N steps")[2].partition("*: the least")[0]
    assert "sequential " in totals
    assert "resident " not in totals
    plan = read_plan(run)
    assert plan is not None
    assert set(plan.best) == {4, 10}
    assert {row.configuration.mode for row in plan.rows} == {"sequential", "partial", "model", "group", "resident"}


def test_what_to_change_is_found_within_the_plans_caps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not within what the profiled machine had."""
    found = {}
    for vram in ("64MiB", "2GiB"):
        assert main(["plan", str(run), "--vram", vram, "--json"]) == ExitCode.OK
        plan = msgspec.json.decode(capsys.readouterr().out, type=OffloadPlan)
        fits = {row.configuration.name for row in plan.rows if row.fits}
        found[vram] = {finding.slug: finding for finding in plan.findings}
        assert ("resident" in fits) is ("weights-fit" in found[vram])
    assert "weights-fit" in found["2GiB"]
    assert "of 2.00 GiB" in found["2GiB"]["weights-fit"].evidence
    kept = found["64MiB"]["idle-device-memory"]
    assert "of 64.0 MiB" in kept.evidence
    code = shlex.split(kept.command)
    assert code[:2] == ["tracekit", "plan"]
    assert main(code[1:]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == kept.code.strip()


def test_json_is_the_plan_and_nothing_else(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(run), "--json", "--ram", "1GiB"]) == ExitCode.OK
    plan = msgspec.json.decode(capsys.readouterr().out, type=OffloadPlan)
    assert plan.ram_bytes == 2**30
    assert plan.steps == [4, 10, 28, 50]


def test_one_configurations_code_is_printed_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(run), "--code", "model"]) == ExitCode.OK
    assert capsys.readouterr().out == 'pipe.enable_model_cpu_offload(device="emulated:0")\n'
    assert main(["plan", str(run), "--code", "magic"]) == ExitCode.USAGE
    assert "no configuration 'magic'" in capsys.readouterr().err


def test_a_verified_plan_has_measured_beside_predicted(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Forked, where forks work: a process that is started anew imports the libraries again.
    monkeypatch.setattr(process, "_started", lambda *_: pytest.fail("started anew"))
    assert main(["plan", str(run), "--vram", "64MiB", "--verify", "1"]) == ExitCode.OK
    assert "predicted" in capsys.readouterr().out
    plan = read_plan(run)
    assert plan is not None
    quantities = {row.quantity: row for row in plan.verified}
    assert {"set-up", "step 1", "warm step", "total", "device memory"} == quantities.keys()
    assert {row.configuration for row in plan.verified} == {plan.best[50]}
    (drift,) = plan.drifts
    assert drift.configuration == plan.best[50]
    assert {"host code", "pageable copies", "cloning"} <= drift.slower.keys()
    assert drift.host is not None
    assert drift.warm_step is not None
    slower = drift.warm_step.predicted.value / quantities["warm step"].predicted.value
    assert min(1, drift.host) - 0.001 <= slower <= max(1, drift.host) + 0.001
    assert drift.warm_step.measured == quantities["warm step"].measured
    memory = quantities["device memory"]
    assert memory.predicted.high >= memory.measured
    # Another plan of the run keeps what was verified where it predicts the same, and shows it.
    assert main(["plan", str(run), "--vram", "64MiB", "--steps", "7"]) == ExitCode.OK
    assert "predicted against measured" in capsys.readouterr().out
    again = read_plan(run)
    assert again is not None
    assert again.steps == [7]
    assert (again.verified, again.drifts) == (plan.verified, plan.drifts)


def test_a_folder_with_a_plan_in_it_is_still_a_run_folder_which_is_replaced(run: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    assert main(["plan", str(copied)]) == ExitCode.OK
    assert read_plan(copied) is not None
    assert main([*PROFILE, "--no-trace", "--force", "--output", str(copied)]) == ExitCode.OK
    assert read_plan(copied) is None


def test_what_was_verified_is_kept_where_the_next_configuration_fails(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def run_arm(turn: ArmRun, *arguments: Any, **options: Any) -> ArmRun:
        ran.append(turn.arm)
        if len(ran) > 1:
            return ArmRun(block=0, arm=turn.arm, outcome=Outcome.FAILED, reason="out of memory")
        return process.run_arm(turn, *arguments, **options)

    monkeypatch.setattr(verification, "run_arm", run_arm)
    assert main(["plan", str(run), "--vram", "64MiB", "--verify", "2"]) == ExitCode.USAGE
    assert "out of memory" in capsys.readouterr().err
    plan = read_plan(run)
    assert plan is not None
    assert len(ran) == 2
    (drift,) = plan.drifts
    assert {row.configuration for row in plan.verified} == {drift.configuration} == {plan.best[50]}


def test_nothing_verified_is_kept_that_is_predicted_otherwise_now(run: Path) -> None:
    def verified(took_ns: int) -> tuple[list[VerifiedRow], Drift]:
        predicted = Estimate(value=10, low=9, high=11)
        row = VerifiedRow(configuration="model", quantity="total", predicted=predicted, measured=took_ns, error=0.0)
        return [row], Drift(configuration="model", slower={})

    earlier, made = (plan_of(run, vram_bytes=64 << 20) for _ in range(2))
    earlier.add_verified(*verified(8))
    earlier.add_verified(*verified(12))
    made.keep_verified(earlier)
    assert [row.measured for row in made.verified] == [12]
    assert made.drifts == earlier.drifts
    for row in earlier.rows:
        if row.prediction is not None:
            row.prediction.setup_ns = row.prediction.setup_ns + Estimate(value=1, low=1, high=1)
    other = plan_of(run, vram_bytes=64 << 20)
    other.keep_verified(earlier)
    assert other.verified == other.drifts == []


@pytest.mark.parametrize(("page_cache", "share"), [("evicted", 0), ("cached", 1)])
def test_what_is_verified_finds_the_weights_where_the_profiled_run_found_them(
    page_cache: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = on_disk(tmp_path) / "checkpoint"
    shutil.copytree(find_folder("synthetic:flux-tiny"), checkpoint)
    profile = ["profile", str(checkpoint), *PROFILE[2:], "--no-trace", "--page-cache", page_cache]
    # In a process of its own, which has the files mapped no more when the plan is verified.
    words = [sys.executable, "-m", "tracekit", *profile, "--output", str(tmp_path / "run")]
    subprocess.run(words, check=True, capture_output=True)
    found = []

    def run_arm(*arguments: Any, **options: Any) -> Any:
        found.append(min(resident_share(path) for path in checkpoint.rglob("*.safetensors")))
        return process.run_arm(*arguments, **options)

    monkeypatch.setattr(verification, "run_arm", run_arm)
    assert main(["plan", str(tmp_path / "run"), "--verify", "1"]) == ExitCode.OK
    assert found == [pytest.approx(share, abs=0.05)]


def resident_share(path: Path) -> float:
    """Share of a file that is in the page cache."""
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
        place = np.frombuffer(mapped, np.uint8)
        with closing(Residency()) as ask:
            share = ask.share(place.ctypes.data, size, str(path), 0)
        del place
    return share


def test_what_is_set_beside_a_prediction_is_without_tracekits_own_work(run: Path) -> None:
    summary = load(run).summary()
    measured = {row.quantity: row.measured for row in compare(any_prediction(), summary)}
    own = {cause.step_index: cause.duration_ns for cause in summary.causes if cause.cause == "tracekit"}
    assert own[1] > 0
    walls = [step.wall_ns - own.get(step.step_index, 0) for step in summary.steps]
    assert measured["step 1"] == walls[0]
    assert measured["warm step"] == round(statistics.median(walls[1:]))
    around = sum(c.duration_ns for c in summary.phase_causes if c.cause != "tracekit" and c.phase != "denoise")
    assert measured["total"] == sum(walls) + around


def any_prediction() -> Prediction:
    one = Estimate(1, 1, 1)
    return Prediction(
        configuration=Configuration(mode="sequential"), setup_ns=one, encode_ns=one, first_step_ns=one,
        warm_step_ns=one, decode_ns=one, device_bytes=one, host_bytes=one, locked_bytes=1, traffic={},
        notes=[],
    )  # fmt: skip


def test_what_cannot_be_verified_is_refused_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    for changes, reason in (
        ({"offload": {"mode": "script", "options": {}}}, "a script sets up its own offloading"),
        ({"workload": "synthetic:flux-tiniest"}, "synthetic"),
    ):
        copy = tmp_path / reason.replace(" ", "-")
        copy.mkdir()
        for table in run.iterdir():
            (copy / table.name).symlink_to(table)
        (copy / "manifest.json").unlink()
        (copy / "manifest.json").write_text(json.dumps(manifest | changes))
        assert main(["plan", str(copy), "--verify", "1"]) == ExitCode.USAGE
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1


def test_show_prints_findings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == ExitCode.OK
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
