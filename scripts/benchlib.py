"""What the benchmarks share: where they ran, a mean with its interval, a Markdown table."""

from __future__ import annotations

import math
import shlex
import statistics
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tracekit.device.machine import describe_machine
from tracekit.model import DeviceInfo
from tracekit.units import format_memory

Z95 = 1.959964
"""Two-sided 95% quantile of the normal distribution; the samples are dozens at least."""


def where(device: DeviceInfo) -> str:
    """Machine, versions and command, as every report gives them."""
    machine = describe_machine()
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "accelerate", "transformers"))
    link = f", {device.link}" if device.link else ""
    command = shlex.join([f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return (
        f"Machine: {device.name}{link}; {machine.cores} cores, {format_memory(machine.ram_bytes)} of memory, "
        f"Linux {machine.kernel}, Python {machine.python}.\n{versions}.\n\n    {command}\n"
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half width of its 95% interval; the half width is infinite for a single value."""
    if len(values) < 2:
        return values[0], math.inf
    return statistics.fmean(values), Z95 * statistics.stdev(values) / math.sqrt(len(values))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
