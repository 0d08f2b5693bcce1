#!/usr/bin/env python
"""Measure what a finished run folder takes to be read, summed up, reported and exported, by its number of copies.

    scripts/bench_reading.py --copies 10000 100000 1000000 --output reports/reading.md

The runs are built, not profiled: 1,001 copies a step, with spans, device records, runtime calls and samples around
each. Every size is read in a process of its own, on one core: seconds are of that process's CPU.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from benchlib import markdown_table, where
from builders import build_large_run, write_run

from tracekit import api
from tracekit.model import DeviceInfo
from tracekit.render.chrome import write_chrome_trace
from tracekit.units import format_memory

HEADER = ("copies", "rows", "read, s", "summary, s", "report, s", "trace, s", "events", "events/s", "peak memory")
INTRODUCTION = """# Reading runs of any length

CPU seconds of one core, each run in a process of its own. Read: the folder's tables, checked. Summary: timeline and
summary. Report: advice, predictions, the report's data and its page, after the summary. Trace: the gzipped Chrome
trace. Other programs ran on the machine beside it, so they are upper bounds. Peak memory is of all of them together.
"""
Result = TypeVar("Result")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder)))
        return 0
    device = DeviceInfo(kind="none", name="runs built in memory", torch_device="")
    rows = [row(copies) for copies in options.copies]
    text = "\n".join([INTRODUCTION, where(device), markdown_table(HEADER, rows)]) + "\n"
    if options.output:
        options.output.write_text(text)
    print(text)
    return 0


def row(copies: int) -> list[str]:
    with tempfile.TemporaryDirectory() as place:
        folder = write_run(Path(place) / "run", build_large_run(copies))
        command = [sys.executable, __file__, "--folder", str(folder)]
        done = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True
        )
    found = json.loads(done.stdout)
    seconds = [f"{found[name]:.1f}" for name in ("read", "summary", "report", "trace")]
    speed = found["events"] / found["trace"]
    counts = [f"{found['events']:,}", f"{speed:,.0f}", format_memory(found["peak_bytes"])]
    return [f"{found['copies']:,}", f"{found['rows']:,}", *seconds, *counts]


def measure(folder: Path) -> dict[str, float]:
    """One process's part."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    found: dict[str, Any] = {}
    run = api.Run(folder)
    data = timed(found, "read", lambda: run.data)
    timed(found, "summary", lambda: run.facts)
    timed(found, "report", run.to_html)
    with (folder.parent / "trace.json.gz").open("wb") as stream:
        stats = timed(found, "trace", lambda: write_chrome_trace(run.timeline, stream))
    found["rows"] = sum(len(getattr(data, name)) for name in ("spans", "copies", "device_ops", "runtime_calls"))
    found["rows"] += len(data.counters) + len(data.host_samples)
    found |= {"copies": len(data.copies), "events": stats.events}
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def timed(found: dict[str, Any], name: str, work: Callable[[], Result]) -> Result:
    began = time.process_time()
    result = work()
    found[name] = time.process_time() - began
    return result


if __name__ == "__main__":
    sys.exit(main())
