#!/usr/bin/env python3
"""Says from real runs how much slower model code is among offload hooks, module by module, than without any.

Runs of one pipeline are set beside one in which everything is resident: what each module's own forward and the code
behind its call take in a warm step, getting device memory apart, by what is copied to the device for the module, and by
how many modules behind the last large copy it is called.

    scripts/check_host_work_runs.py RUN... --against RESIDENT --output reports/host-work-h200.md
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchlib import markdown_table, where_it_ran

from tracekit.analysis.prediction.predictor import Predictor
from tracekit.analysis.prediction.tape import Op
from tracekit.api import load

MIB = 1 << 20
LARGE = MIB
"""From here on a copy counts as a large one, in bytes."""


class Visit(NamedTuple):
    """A call of a module that has weights: what its own forward takes, and all behind it until the next, ns."""

    fqn: str
    own_ns: float
    behind_ns: float


class Sums(NamedTuple):
    """Sums over modules, ns."""

    own: float
    own_alone: float
    behind: float
    behind_alone: float


def visits(predictor: Predictor) -> list[Visit]:
    """The calls of a warm step in their order."""
    owners, inside, found = set(predictor.evidence.owners), [""], dict[str, list[float]]()
    last = ""
    for event in predictor.warm[0].events:
        match event.op:
            case Op.ENTER if event.fqn in owners:
                inside.append(event.fqn)
                last = event.fqn
                found.setdefault(last, [0.0, 0.0])
            case Op.LEAVE if event.fqn == inside[-1]:
                inside.pop()
            case Op.WORK if last:
                took = event.host_ns - event.allocation_ns
                found[inside[-1] if event.in_owner else last][0 if event.in_owner else 1] += took
    return [Visit(fqn, *times) for fqn, times in found.items()]


BROUGHT = ((32 * MIB, "32 MiB and more"), (8 * MIB, "8 to 32 MiB"), (LARGE, "1 to 8 MiB"), (0, "less"))
"""What is copied for a module, from so many bytes on."""
BEHIND = (
    (1, "nothing, next behind a large one"),
    (5, "nothing, 2 to 5 behind"),
    (15, "nothing, 6 to 15 behind"),
    (math.inf, "nothing, further on"),
)
"""Where nothing is: at most so many modules behind a large copy."""


def kinds(predictor: Predictor, called: Sequence[Visit]) -> Iterator[str]:
    """What is copied for each module, or how far behind a large copy it is called."""
    moved = dict(zip(predictor.evidence.owners, predictor.evidence.moved, strict=True))
    since = math.inf
    for visit in called:
        brought = moved.get(visit.fqn)
        size = brought.size_bytes if brought else 0
        since = 0 if size >= LARGE else since + 1
        if size:
            yield next(name for least, name in BROUGHT if size >= least)
        else:
            yield next(name for most, name in BEHIND if since <= most)


def compared(path: Path, alone: dict[str, Visit]) -> list[list[str]]:
    """Rows of one run."""
    predictor = Predictor(load(path).timeline)
    called = [visit for visit in visits(predictor) if visit.fqn in alone]
    sums: dict[str, list[Sums]] = {}
    for visit, kind in zip(called, kinds(predictor, called), strict=True):
        of = alone[visit.fqn]
        sums.setdefault(kind, []).append(Sums(visit.own_ns, of.own_ns, visit.behind_ns, of.behind_ns))
    rows = []
    for _, kind in (*BROUGHT, *BEHIND):
        if kind in sums:
            modules = len(sums[kind])
            total = Sums(*map(sum, zip(*sums[kind], strict=True)))
            own, behind = total.own / max(total.own_alone, 1), total.behind / max(total.behind_alone, 1)
            took = [f"{ns / modules / 1000:.0f}" for ns in (total.own, total.behind)]
            rows.append([path.name, kind, f"{modules}", took[0], f"{own:.2f}", took[1], f"{behind:.2f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--against", type=Path, required=True, metavar="RESIDENT")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    resident = load(options.against)
    alone = {visit.fqn: visit for visit in visits(Predictor(resident.timeline))}
    rows = [row for path in options.runs for row in compared(path, alone)]
    header = ["run", "copied for a module", "modules", "own, us", "times", "code behind, us", "times"]
    options.output.write_text(
        "# Model code among offload hooks, module by module\n\n"
        f"{where_it_ran(resident.manifest)}\n"
        f"{resident.manifest.pipeline_class}: what a module's own forward and the code behind its call take in a warm\n"
        "step, getting device memory apart; and how many times as long that is as where everything is resident.\n\n"
        f"{markdown_table(header, rows)}\n"
    )
    print(options.output.read_text())


if __name__ == "__main__":
    main()
