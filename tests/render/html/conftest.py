"""A report of a real run, made once: built-in Flux on the emulated device, as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tracekit
from tracekit.model.report import Report


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "run"
    options = ["--device", "emulated", "--steps", "4", "--output", str(folder)]
    command = [sys.executable, "-m", "tracekit", "profile", "synthetic:flux-tiny", *options]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def report(run_folder: Path) -> Report:
    return tracekit.load(run_folder)._report


@pytest.fixture(scope="session")
def page_file(run_folder: Path) -> Path:
    """What the profile itself wrote at its end."""
    return run_folder / "report.html"
