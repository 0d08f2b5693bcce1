"""`tracekit doctor` finds what a machine can measure: its checks on made-up /proc files, the command on this one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from golden import assert_golden
from packaging.requirements import Requirement

from tracekit.cli.doctor import WIDTH, finding_lines
from tracekit.cli.main import main
from tracekit.device.doctor import can_profile, cgroups, examine, gpu, host, pagecache, software, storage
from tracekit.model.machinecheck import Level, MachineCheck

RAM = 64 << 30


@pytest.fixture(scope="module")
def findings() -> list[MachineCheck]:
    return examine()


def proc_with(folder: Path, **files: str) -> Path:
    """A made-up /proc; an underscore in a name stands for a folder's slash."""
    for name, text in files.items():
        path = folder / "proc" / name.replace("_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "proc"


def test_every_check_answers_here_and_what_is_not_ok_has_a_remedy(findings: list[MachineCheck]) -> None:
    checks = [finding.check for finding in findings]
    assert len(checks) == len(set(checks))
    assert {gpu.CUDA, gpu.CUPTI, gpu.NVML, gpu.LINK, host.PAGE_LOCKED, software.EMULATED} < set(checks)
    assert [finding for finding in findings if finding.level is not Level.OK and not finding.remedy] == []
    assert can_profile(findings)


def test_pages_of_a_file_on_disk_can_be_evicted_and_those_in_memory_alone_cannot(tmp_path: Path) -> None:
    def said(folder: Path) -> Level:
        return pagecache.check_residency(folder).level

    if storage.check_cache(tmp_path).level is Level.OK:
        assert said(tmp_path) is Level.OK
        assert list(tmp_path.iterdir()) == []
    shm = Path("/dev/shm")
    if storage.file_system(shm, Path("/proc/self/mountinfo").read_text()) == "tmpfs":
        assert said(shm) is Level.LIMITED


def test_a_folder_that_cannot_be_made_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert pagecache.check_residency(tmp_path / "file" / "cache").level is Level.MISSING


V2 = {"self_mountinfo": "30 20 0:26 / {point} rw,nosuid - cgroup2 cgroup rw\n"}
V1 = {
    "self_mountinfo": "40 20 0:30 / {point} rw - cgroup cgroup rw,memory\n41 20 0:31 / /x rw - cgroup cgroup rw,cpu\n"
}


@pytest.mark.parametrize(
    ("groups", "mounts", "limits", "expected"),
    [
        ("0::/a/b\n", V2, {"a/b/memory.max": "max", "a/memory.max": str(12 << 30)}, "12.0 GiB of"),
        ("0::/a/b\n", V2, {"a/b/memory.high": str(8 << 30), "a/memory.max": str(12 << 30)}, "8.00 GiB of"),
        ("0::/../outside\n", V2, {"memory.max": str(12 << 30)}, "12.0 GiB of"),
        ("0::/a\n", V2, {"a/memory.max": "max"}, "none"),
        ("4:memory:/a\n", V1, {"a/memory.limit_in_bytes": str(4 << 30)}, "4.00 GiB of"),
        ("4:memory:/a\n", V1, {"a/memory.limit_in_bytes": str((1 << 63) - 4096)}, "none"),
        ("1:cpu:/a\n", V1, {"a/memory.limit_in_bytes": str(4 << 30)}, "none"),
        ("nonsense\n", V2, {}, "none"),
    ],
)
def test_the_lowest_limit_on_the_way_up_counts(
    groups: str, mounts: dict[str, str], limits: dict[str, str], expected: str, tmp_path: Path
) -> None:
    point = tmp_path / "cgroup"
    for name, text in limits.items():
        (point / name).parent.mkdir(parents=True, exist_ok=True)
        (point / name).write_text(text)
    files = {name: text.format(point=point) for name, text in mounts.items()}
    finding = cgroups.check_memory_limit(proc_with(tmp_path, self_cgroup=groups, **files), RAM)
    assert finding.found.startswith(expected)
    assert finding.level is (Level.OK if expected == "none" else Level.LIMITED)


@pytest.mark.parametrize(
    ("total", "free", "level"), [(0, 0, Level.OK), (1000, 1000, Level.OK), (1000, 400, Level.LIMITED)]
)
def test_swap_matters_once_something_is_in_it(total: int, free: int, level: Level, tmp_path: Path) -> None:
    proc = proc_with(tmp_path, meminfo=f"MemTotal: 5 kB\nSwapTotal: {total} kB\nSwapFree: {free} kB\n")
    assert host.check_swap(proc).level is level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("some avg10=0.40 avg60=1.00 avg300=0.00 total=5\nfull avg10=0.00", Level.OK),
        ("some avg10=62.50 avg60=1.00 avg300=0.00 total=5\n", Level.LIMITED),
        ("nonsense", Level.LIMITED),
        (None, Level.LIMITED),
    ],
)
def test_a_busy_disk_is_told(text: str | None, level: Level, tmp_path: Path) -> None:
    proc = proc_with(tmp_path, **({} if text is None else {"pressure_io": text}))
    assert host.check_io_pressure(proc).level is level


def test_hidden_counters_are_told(tmp_path: Path) -> None:
    assert host.check_process_io(tmp_path).level is Level.MISSING
    assert host.check_process_io(proc_with(tmp_path, self_io="rchar: 1\nread_bytes: 0\n")).level is Level.OK
    assert host.check_swap(tmp_path / "nothing").level is Level.LIMITED


@pytest.mark.parametrize(
    ("link", "level"), [((5, 16, 5, 16), Level.OK), ((3, 16, 5, 16), Level.LIMITED), ((5, 8, 5, 16), Level.LIMITED)]
)
def test_a_link_below_its_maximum_is_told(link: tuple[int, int, int, int], level: Level) -> None:
    assert gpu.link_finding(*link).level is level


def test_the_tested_versions_begin_where_the_package_does() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    requirements = {need.name: need for need in map(Requirement, project["dependencies"])}
    for name, (oldest, _) in software.TESTED.items():
        assert str(requirements[name].specifier) == f">={oldest}"


@pytest.mark.parametrize(
    ("installed", "level"),
    [
        ("2.11.0", Level.OK),
        ("2.13.1+cu130", Level.OK),
        ("2.10.0", Level.MISSING),
        ("2.14.0.dev20260101", Level.LIMITED),
        ("3", Level.LIMITED),
        (None, Level.MISSING),
    ],
)
def test_versions_are_held_against_the_tested_ones(installed: str | None, level: Level) -> None:
    assert software.version_finding("torch", installed).level is level


def test_the_innermost_file_system_counts() -> None:
    mounts = (
        "20 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "21 20 0:5 / /mnt/my\\040disk rw - tmpfs none rw\n"
        "22 20 0:6 / /mnt/my\\040disk/in rw - nfs4 server:/ rw\n"
    )
    assert storage.file_system(Path("/mnt/other"), mounts) == "ext4"
    assert storage.file_system(Path("/mnt/my disk/x"), mounts) == "tmpfs"
    assert storage.file_system(Path("/mnt/my disk/in/x"), mounts) == "nfs4"
    assert storage.file_system(Path("/x"), "") == ""


def test_a_cache_without_a_disk_or_across_a_network_is_told(tmp_path: Path) -> None:
    def level(kind: str) -> Level:
        (tmp_path / "mountinfo").write_text(f"20 1 8:1 / / rw - {kind} x rw\n")
        return storage.check_cache(tmp_path / "not" / "there", tmp_path / "mountinfo").level

    assert [level(kind) for kind in ("tmpfs", "nfs4")] == [Level.LIMITED] * 2


def test_json_is_the_findings_and_the_code_is_0_with_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said[0]) == {"check", "level", "found", "remedy"}
    assert {row["level"] for row in said} <= set(Level)


def test_where_nothing_can_be_profiled_the_code_is_4(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [MachineCheck(check=name, level=Level.MISSING, found="not there") for name in (gpu.CUDA, software.EMULATED)]
    monkeypatch.setattr("tracekit.device.doctor.examine", lambda: gone)
    assert main(["doctor"]) == 4


def test_golden() -> None:
    checks = [
        MachineCheck(check=gpu.CUDA, level=Level.MISSING, found="torch is built without CUDA", remedy="a GPU"),
        MachineCheck(
            check=host.SWAP,
            level=Level.LIMITED,
            found="1.20 GiB of 8.00 GiB of swap are in use, and what is swapped out is read again in steps",
            remedy="swapoff -a before a measurement, and swapon -a after it, where memory suffices",
        ),
        MachineCheck(check=software.EMULATED, level=Level.OK, found="the emulated device is built"),
    ]
    assert_golden("doctor.txt", "".join(f"{line}\n" for line in finding_lines(checks)))


def test_lines_stay_within_80_columns_and_control_characters_are_shown() -> None:
    remedy = "do something " * 20
    check = MachineCheck(check=storage.CACHE, level=Level.LIMITED, found="/x/\x1b[31m" * 30, remedy=remedy)
    lines = list(finding_lines([check]))
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in "".join(lines)


@pytest.mark.cuda
def test_on_a_gpu_everything_that_measures_it_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {found[check]["level"] for check in (gpu.CUDA, gpu.CUPTI, gpu.NVML)} == {"ok"}
    # A slot may be narrower than the card, and a limit on page-locked memory may hold: told, but not missing.
    assert found[gpu.LINK]["level"] != "missing"
    assert found[gpu.LINK]["found"].startswith("PCIe ")
    assert found[host.PAGE_LOCKED]["level"] != "missing"
    assert "without a GPU" not in found[host.PAGE_LOCKED]["found"]
