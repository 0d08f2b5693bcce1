"""What the benchmarks share: where they ran, a mean with its interval, a Markdown table."""

from __future__ import annotations

import math
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tracekit.device.machine import describe_machine
from tracekit.model import DeviceInfo, Manifest
from tracekit.units import format_memory

_PROFILED = ("torch", "diffusers", "accelerate", "transformers")
Z95 = 1.959964
"""Two-sided 95% quantile of the normal distribution; the samples are dozens at least."""


def where(device: DeviceInfo) -> str:
    """This machine, its versions and the command, as every report gives them."""
    return _where(device, platform.python_version(), {name: version(name) for name in _PROFILED})


def where_it_ran(manifest: Manifest) -> str:
    """The same of a run folder's run, which may come from elsewhere."""
    return _where(manifest.device, manifest.machine.python, manifest.versions)


def _where(device: DeviceInfo, python: str, versions: Mapping[str, str]) -> str:
    those = ", ".join(f"{name} {versions[name]}" for name in _PROFILED)
    command = shlex.join([f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return f"Machine: {_machine(device)}. Python {python}, {those}.\n\n    {command}\n"


def usual_name(device_name: str) -> str:
    """What people call a GPU: "NVIDIA H100 80GB HBM3" is an H100 80GB."""
    return " ".join(word for word in device_name.split() if word != "NVIDIA" and not word.startswith("HBM"))


def _machine(device: DeviceInfo) -> str:
    if device.kind == "cuda":
        return f"1x {usual_name(device.name)}, {device.link}"
    machine = describe_machine()
    return f"no GPU ({device.name}); {machine.cores} cores, {format_memory(machine.ram_bytes)} of memory"


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95% interval from order statistics, which assumes nothing about the distribution.

    The ranks are those of the normal approximation to the binomial; with under 10 values the interval is infinite.
    """
    ordered, count = sorted(values), len(values)
    if count < 10:
        return statistics.median(ordered), -math.inf, math.inf
    reach = Z95 * math.sqrt(count) / 2
    low, high = math.floor(count / 2 - reach), math.ceil(count / 2 + reach)
    return statistics.median(ordered), ordered[max(low, 0)], ordered[min(high, count - 1)]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
