#!/usr/bin/env python
"""Record a long run of a model with many modules, and watch that tracekit's own memory stays flat.

The model does next to nothing in each module, so that events are what the run is made of. The process's resident
memory is sampled at each step (/proc/self/statm), in one process with tracekit and in one without. Then the run folder
is summed up and written as a thinned trace, each in a process of its own, with its time and its peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch
from benchlib import markdown_table, where
from torch import nn

import tracekit
from tracekit.model import DeviceInfo
from tracekit.units import format_bytes, format_memory

_PAGE = os.sysconf("SC_PAGESIZE")
_MOST_BYTES = 14 << 30
"""What reading, summing up and writing may each take: other programs live on this machine, too."""
WARM_STEPS = 20
"""Steps after which what is allocated once (buffers, caches) is there."""


class Many(nn.Module):
    """Modules that pass their input on; each step copies one weight to the device."""

    def __init__(self, modules: int, device: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Identity() for _ in range(modules))
        self.weight = nn.Parameter(torch.zeros(4096))
        self.device = device

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pass the input on, through every module."""
        if self.device:
            self.weight.to(self.device)
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


def record(options: argparse.Namespace) -> None:
    """One process's part: run, and print seconds and resident bytes a step."""
    device = ""
    if options.part == "with":
        from tracekit.device.choice import prepare_device, resolve_device

        choice = resolve_device("emulated")
        prepare_device(choice, None, None)
        device = choice.torch_device
    module, inputs, resident = Many(options.modules, device), torch.zeros(1), []
    began = time.perf_counter()

    def run() -> None:
        for _ in range(options.steps):
            module(inputs)
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE)

    with torch.no_grad():
        if options.part == "with":
            with tracekit.profile(module, options.folder, device="emulated", trace=False):
                run()
                looped = time.perf_counter() - began
        else:
            run()
            looped = time.perf_counter() - began
    print(json.dumps({"loop_s": looped, "all_s": time.perf_counter() - began, "resident": resident}))


def use(options: argparse.Namespace) -> None:
    """Read the folder as one command does, and print seconds and peak memory."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    began = time.perf_counter()
    run = tracekit.load(options.folder)
    if options.part == "show":
        run.summary()
    elif "--max-mb" in options.part:
        run.write_trace(options.folder.with_name("thin.json.gz"), max_bytes=50_000_000)
    else:
        run.write_trace(options.folder.with_name("steps.json.gz"), [0, 1, -1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"all_s": time.perf_counter() - began, "peak": peak}))


def part(name: str, options: argparse.Namespace, folder: Path) -> dict[str, object]:
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    command += ["--steps", str(options.steps), "--modules", str(options.modules)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    print(name, {key: value for key, value in answer.items() if key != "resident"}, file=sys.stderr)
    return answer


def report(control: dict, recorded: dict, uses: dict[str, dict], folder: Path, options: argparse.Namespace) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    grown = {
        name: one["resident"][-1] - one["resident"][WARM_STEPS] for name, one in (("no", control), ("yes", recorded))
    }
    above = recorded["resident"][-1] - control["resident"][-1]
    events = pq.read_metadata(folder / "spans" / "part-0.parquet").num_rows
    quarters = [
        (f"step {step}", format_memory(control["resident"][step - 1]), format_memory(recorded["resident"][step - 1]))
        for step in (1, WARM_STEPS, *(options.steps * part // 4 for part in range(1, 5)))
    ]
    rows = [
        ("spans recorded", f"{events:,}"),
        ("time of the loop, without and with tracekit", f"{control['loop_s']:.0f} s, {recorded['loop_s']:.0f} s"),
        ("a span's cost", f"{(recorded['loop_s'] - control['loop_s']) / events * 1e6:.1f} us"),
        ("from the loop's end to the finished folder", f"{recorded['all_s'] - recorded['loop_s']:.0f} s"),
        ("run folder", format_bytes(size)),
        (f"growth of resident memory after step {WARM_STEPS}, without and with",
         f"{format_memory(grown['no'])}, {format_memory(grown['yes'])}"),
        ("resident memory above the control at the end", format_memory(above)),
        *((f"{name}: time, peak memory", _cost(one)) for name, one in uses.items()),
    ]  # fmt: skip
    device = DeviceInfo(kind="emulated", name="emulated accelerator", torch_device="")
    return (
        f"# A long run\n\n{options.steps:,} steps of a model with {options.modules:,} modules.\n\n"
        + markdown_table(("", ""), rows)
        + "\n\nResident memory of the process:\n\n"
        + markdown_table(("at", "without tracekit", "with"), quarters)
        + f"\n\n{where(device)}"
    )


def _cost(one: dict) -> str:
    return (
        f"{one['all_s']:.0f} s, {format_memory(one['peak'])}"
        if one
        else f"did not end within {format_memory(_MOST_BYTES)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--modules", type=int, default=10_000)
    parser.add_argument("--output", type=Path, help="write the report here")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        (record if options.part in ("with", "without") else use)(options)
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        control, recorded = (part(name, options, folder) for name in ("without", "with"))
        uses = {name: part(name, options, folder) for name in ("show", "export --only-steps", "export --max-mb 50")}
        text = report(control, recorded, uses, folder, options)
    print(text)
    if options.output:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
