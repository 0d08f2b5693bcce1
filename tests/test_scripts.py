"""The set-up scripts, run by a real bash: what they reuse, what they say is missing, that a second call is silent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPTS = [ROOT / "scripts" / "lib.sh", ROOT / "scripts" / "demo", ROOT / "scripts" / "test", ROOT / ".ci" / "run"]
LIBRARY = SCRIPTS[0]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BASH = shutil.which("bash") or "bash"
APT = shutil.which("apt-get")
MISSING = 4
NOBODY = 65534


def bash(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run bash with the library sourced, away from the clone, in the given environment only."""
    return subprocess.run(
        [BASH, "-c", f"source '{LIBRARY}'; {code}"],
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A PATH with this interpreter and what the library calls, but neither a compiler, apt-get nor sudo."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for name in ("bash", "dirname", "readlink", "cksum"):
        (folder / name).symlink_to(shutil.which(name) or name)
    python = folder / "python3"
    python.write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script: Path) -> None:
    checker = shutil.which("shellcheck")
    command = [checker, "-x", "-P", "SCRIPTDIR"] if checker else ["bash", "-n"]
    assert subprocess.run([*command, script], capture_output=True, text=True).stdout == ""
    assert script == LIBRARY or os.access(script, os.X_OK)


def test_limits_are_those_of_the_package() -> None:
    values = dict(re.findall(r"^([A-Z_]+)=([\d.]+)", LIBRARY.read_text(), flags=re.MULTILINE))
    assert PYPROJECT["project"]["requires-python"] == f">={values['PYTHON_FLOOR']},<{values['PYTHON_CEILING']}"
    assert f"torch>={values['TORCH_FLOOR']}" in PYPROJECT["project"]["dependencies"]
    assert values["TESTED_TORCH"].startswith(values["TORCH_FLOOR"][:2])


def test_sourcing_prints_and_changes_nothing() -> None:
    done = bash("echo $ROOT")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{ROOT}\n", "")


def test_python_outside_the_limits_is_named(commands: Path, tmp_path: Path) -> None:
    done = bash(f"VENV={tmp_path}/venv PYTHON_FLOOR=3.90 make_venv", PATH=str(commands))
    assert done.returncode == MISSING
    assert done.stderr == "tracekit: needs Python 3.90 or newer, below 3.14, as python3 or python3.N\n"


def test_environment_of_another_python_is_kept_and_named(tmp_path: Path) -> None:
    done = bash(f"VENV={sys.prefix} PYTHON_FLOOR=3.90 make_venv")
    assert done.returncode == MISSING
    assert done.stderr == (f"tracekit: {sys.prefix} is not of Python 3.90 or newer, below 3.14: remove that folder\n")


def test_missing_package_is_named_where_there_is_no_apt(commands: Path, tmp_path: Path) -> None:
    done = bash(f"VENV={tmp_path}/venv make_venv", PATH=str(commands))
    assert done.returncode == MISSING
    assert done.stderr.splitlines()[-1].startswith("tracekit: needs what Debian calls g++")
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(os.geteuid() != 0 or APT is None, reason="only root can become a user without rights, where apt is")
def test_line_to_paste_where_apt_needs_a_password() -> None:
    # Not tmp_path: only its owner may read that.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(LIBRARY, folder)
        for command in ("dirname", "readlink", "apt-get"):
            (folder / command).symlink_to(shutil.which(command) or command)
        done = subprocess.run(
            [BASH, "-c", f"source {folder}/lib.sh; install_packages g++ chromium"],
            env={"PATH": name},
            user=NOBODY,
            capture_output=True,
            text=True,
        )
    assert done.returncode == MISSING
    assert done.stderr == (
        "tracekit: needs g++ chromium; paste this: sudo apt-get update && sudo apt-get install -y g++ chromium\n"
    )


def test_torch_of_the_active_environment_is_reused(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    prepare = f"VENV={venv}; make_venv; install_torch"
    done = bash(f"{prepare}; $VENV/bin/python -c 'import torch; print(torch.__file__)'", VIRTUAL_ENV=sys.prefix)
    assert done.stdout == f"{torch.__file__}\n", done.stderr
    assert "pip install" not in done.stderr

    again = bash(prepare, VIRTUAL_ENV=sys.prefix)
    assert (again.returncode, again.stderr) == (0, "")


def test_torch_below_the_floor_is_not_reused() -> None:
    done = bash(f"TORCH_FLOOR=99.0; torch_folder {sys.executable}")
    assert (done.returncode, done.stdout) == (1, "")
