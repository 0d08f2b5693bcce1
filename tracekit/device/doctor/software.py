"""Check the libraries' versions against those that were tested, and what the emulated device needs to be built."""

from __future__ import annotations

import importlib.metadata
import re

from tracekit.errors import MissingError
from tracekit.model.machinecheck import Level, MachineCheck

EMULATED = "emulated"
TESTED = {
    "torch": ("2.11", "2.13"),
    "diffusers": ("0.42", "0.42"),
    "accelerate": ("1.15", "1.15"),
    "transformers": ("5.17", "5.24"),
}
"""The oldest and the newest release (without its last number) that the test suite was run against."""


def check_emulated() -> MachineCheck:
    """Whether the emulated device is built, or can be: a C++ compiler and Python's headers."""
    try:
        from tracekit.device.emulated.build import check_available, library_path

        check_available()
    except ImportError as error:
        found = f"cannot be imported: {error}".splitlines()[0]
        return MachineCheck(check=EMULATED, level=Level.MISSING, found=found, remedy="install tracekit's dependencies")
    except MissingError as error:
        found, _, remedy = str(error).partition("; ")
        return MachineCheck(check=EMULATED, level=Level.MISSING, found=found, remedy=remedy)
    built = library_path().exists()
    found = "the emulated device is built" if built else "compiler and Python's headers are there; built at first use"
    return MachineCheck(check=EMULATED, level=Level.OK, found=found)


def check_versions() -> list[MachineCheck]:
    """One finding a library that is profiled."""
    return [version_finding(name, _installed(name)) for name in TESTED]


def version_finding(name: str, installed: str | None) -> MachineCheck:
    """A library's version against the tested ones; None: it is not installed."""
    oldest, newest = TESTED[name]
    tested = f"tested: {oldest}" if oldest == newest else f"tested: {oldest} to {newest}"
    if installed is None:
        remedy = f"pip install '{name}>={oldest}'"
        return MachineCheck(check=name, level=Level.MISSING, found=f"not installed ({tested})", remedy=remedy)
    found = f"{installed} ({tested})"
    # A patch release of a tested one is taken for tested.
    if release(installed) < release(oldest):
        return MachineCheck(check=name, level=Level.MISSING, found=found, remedy=f"pip install '{name}>={oldest}'")
    if release(installed)[:2] > release(newest):
        remedy = "hooks may miss what moved in it: run the test suite, or install a tested one"
        return MachineCheck(check=name, level=Level.LIMITED, found=found, remedy=remedy)
    return MachineCheck(check=name, level=Level.OK, found=found)


def release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, at least two: ``2.13.0+cu130`` is (2, 13, 0)."""
    numbers = [int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version, maxsplit=1)[0])]
    return tuple([*numbers, 0, 0][: max(2, len(numbers))])


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
