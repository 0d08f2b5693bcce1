#!/usr/bin/env python
"""Give the readers damaged and hostile input: run folders, spools, traces, experiments. Nothing but one line may come.

From real files (a small profile made here, its trace, a torch.profiler trace) it makes mutants: flipped, cut, doubled
and inserted bytes, and values that no writer writes under the right names and types. Some of what is still read goes
through the summary, too. Every mutant that ends in anything but a run or a one-line TracekitError is shown and kept.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from benchlib import markdown_table, where

from tracekit import api
from tracekit.analysis import build_timeline, summarize
from tracekit.errors import TracekitError
from tracekit.model import TABLES
from tracekit.offload.options import OffloadOptions
from tracekit.runfolder import RunWriter, read_run
from tracekit.runfolder.experiments import read_experiment
from tracekit.workload.call import CallOptions

ROWS = 60
SUMMED_UP = 5
"""Of so many mutants that can be read, one goes through the summary, too."""
LIMIT_S = 30
HOSTILE_BYTES = (b"", b"\x00", b"\xff" * 8, b'"', b"{", b"]", b"\\", b"\x1f\x8b", b"1e999", b"null", b"../../x", b"-1")
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63 - 1, -(2**63), 2**64, 1e308, -1e308, 0.5, "", "x" * 5000, "\x00\x1b[31m",
    "../../etc", "<script>alert(1)</script>", "{{ 7 * 7 }}", [], {}, [[[[]]]], "\ud800", "run", "forward", "H2D",
)  # fmt: skip
HOSTILE_COLUMNS: dict[str, tuple[Any, ...]] = {
    "int": (-1, 0, 1, -2, 2**31 - 1, 2**61, 2**63 - 1, -(2**63), None),
    "float": (float("nan"), float("inf"), -1.0, 2.0, 1e308, None),
    "str": ("", "x" * 5000, "a.b.c", "..", "\x00", "<b>", "run", "forward", "H2D", "mmap", None),
    "bool": (True, False, None),
}
Mutate = Callable[[random.Random, bytes], bytes]


@dataclass
class Tally:
    """What became of one target's mutants."""

    read: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    said: Counter[str] = field(default_factory=Counter)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(mutant) + 1) if mutant else 0
        how = rng.randrange(5)
        if how == 0 and at < len(mutant):
            mutant[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del mutant[at : at + rng.choice((1, 4, 100, len(mutant)))]
        elif how == 2:
            mutant[at:at] = rng.choice(HOSTILE_BYTES)
        elif how == 3:
            mutant[at:at] = mutant[at : at + rng.choice((1, 8, 200))]
        elif at < len(mutant):
            mutant[at : at + 8] = rng.randbytes(8)
    return bytes(mutant)


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 3))):
        holder, key = rng.choice(list(_places(document)))
        how = rng.randrange(3)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[str(rng.choice(HOSTILE_VALUES))] = holder[key]
        else:
            holder[key] = rng.choice(HOSTILE_VALUES)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _places(document: Any) -> list[tuple[Any, Any]]:
    found, waiting = [], [document]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found or [({"": 0}, "")]


def mutate_zipped(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return mutate_bytes(rng, gzip.compress(data, 1))
    return gzip.compress(rng.choice((mutate_bytes, mutate_json))(rng, data), 1)


def mutate_cells(rng: random.Random, path: Path) -> None:
    """Write a Parquet part again with some values changed, or a column gone, doubled or of another type."""
    table = pq.read_table(path)
    for _ in range(rng.choice((1, 1, 4))):
        if not table.num_columns:
            break
        index = rng.randrange(table.num_columns)
        name, kind = table.schema.field(index).name, table.schema.field(index).type
        values = table.column(index).to_pylist()
        how = rng.randrange(8)
        if how == 0:
            table = table.remove_column(index)
        elif how == 1:
            table = table.set_column(index, name, pa.array([str(value) for value in values]))
        elif how == 2:
            table = table.append_column(name, table.column(index))
        elif values:
            choices = HOSTILE_COLUMNS[_family(kind)]
            for _ in range(rng.choice((1, 3, len(values)))):
                values[rng.randrange(len(values))] = rng.choice(choices)
            plain = pa.string() if pa.types.is_dictionary(kind) else kind
            try:
                table = table.set_column(index, name, pa.array(values, plain))
            except (pa.ArrowException, OverflowError):
                continue
    pq.write_table(table, path)


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "int"
    return "float" if pa.types.is_floating(kind) else "bool" if pa.types.is_boolean(kind) else "str"


def make_seeds(folder: Path) -> dict[str, Path]:
    """A finished run folder, a killed one, and traces, of a real profile cut to few rows."""
    run = api.profile_pipeline(
        "synthetic:flux-tiny",
        offload=OffloadOptions(mode="sequential"),
        call=CallOptions(steps=2, height=32, width=32),
        capture=api.CaptureOptions(output=folder / "whole", device="emulated", trace=False),
    )
    data = run.data
    for name, finish in (("finished", True), ("killed", False)):
        writer = RunWriter.create(folder / name, data.manifest)
        for table in TABLES.values():
            for row in getattr(data, table.name).head(ROWS).itertuples(index=False):
                writer.append(table, *row)
        writer.finish(data.manifest) if finish else writer.flush()
    own = api.load(folder / "finished").write_trace(folder / "own.json.gz")
    (folder / "own.json").write_bytes(gzip.decompress(own.read_bytes()))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        torch.nn.Linear(4, 4)(torch.zeros(1, 4))
    profiler.export_chrome_trace(str(folder / "theirs.json"))
    return {name: folder / name for name in ("finished", "killed", "own.json", "theirs.json")}


def read_folder(path: Path) -> None:
    run = read_run(path)
    if _is_summed_up(path):
        summarize(build_timeline(run))


def import_file(path: Path) -> None:
    run = api.import_trace(path, path.with_name("imported"), force=True)
    if _is_summed_up(path):
        run.summary()


def _is_summed_up(path: Path) -> bool:
    """A sum takes ten times as long as reading: one in `SUMMED_UP` mutants, by the hash of its place."""
    return zlib.crc32(bytes(path)) % SUMMED_UP == 0


class Fuzzer:
    """Makes the mutants of one target, one folder a mutant, and keeps those that fail."""

    def __init__(self, seeds: dict[str, Path], kept: Path, seed: int) -> None:
        self.seeds, self.kept, self.seed = seeds, kept, seed

    def folder(self, seed: str, change: Callable[[random.Random, Path], None]) -> Callable[[random.Random, Path], Path]:
        """Mutants of a run folder."""

        def make(rng: random.Random, place: Path) -> Path:
            path = place / "run"
            shutil.copytree(self.seeds[seed], path)
            change(rng, path)
            return path

        return make

    def file(self, seed: str, mutate: Mutate, suffix: str = ".json") -> Callable[[random.Random, Path], Path]:
        """Mutants of a file."""
        data = self.seeds[seed].read_bytes()

        def make(rng: random.Random, place: Path) -> Path:
            path = place / f"mutant{suffix}"
            path.write_bytes(mutate(rng, data))
            return path

        return make

    def run(
        self, name: str, make: Callable[[random.Random, Path], Path], read: Callable[[Path], Any], count: int
    ) -> Tally:
        """Read `count` mutants."""
        tally = Tally()
        for number in range(count):
            rng = random.Random(f"{self.seed} {name} {number}")
            with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
                path = make(rng, Path(place))
                began = time.perf_counter()
                problem = outcome(read, path, tally)
                tally.slowest_s = max(tally.slowest_s, time.perf_counter() - began)
                if problem:
                    tally.failures.append(f"{name} {number}: {problem}")
                    target = self.kept / f"{name.replace(' ', '-')}-{number}"
                    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, target)
        return tally


def outcome(read: Callable[[Path], Any], path: Path, tally: Tally) -> str:
    """What is wrong with how reading ended; empty when it was read or refused in one line."""
    signal.alarm(LIMIT_S)
    try:
        read(path)
    except TracekitError as error:
        tally.refused += 1
        tally.said[str(error).replace(str(path), "PATH").split("damaged")[0][:40]] += 1
        return "the message has several lines" if "\n" in str(error) else ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({Path(frame.filename).name}:{frame.lineno})"
    finally:
        signal.alarm(0)
    tally.read += 1
    return ""


def change_file(name: str, mutate: Mutate) -> Callable[[random.Random, Path], None]:
    def change(rng: random.Random, folder: Path) -> None:
        (folder / name).write_bytes(mutate(rng, (folder / name).read_bytes()))

    return change


def change_part(rng: random.Random, folder: Path, change: Callable[[random.Random, Path], None]) -> None:
    change(rng, rng.choice(sorted(folder.glob("*/*.parquet"))))


def flip_part(rng: random.Random, path: Path) -> None:
    path.write_bytes(mutate_bytes(rng, path.read_bytes()))


def change_spool(rng: random.Random, folder: Path) -> None:
    flip_part(rng, rng.choice(sorted(path for path in (folder / "spool").iterdir() if path.stat().st_size)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12_000, help="mutants in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--experiment", type=Path, help="an experiment's folder to mutate, too")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where mutants that fail are kept")
    parser.add_argument("--output", type=Path, help="write the report here")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError(f"no end after {LIMIT_S} s")))
    options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        seeds = make_seeds(Path(place))
        device = api.load(Path(place) / "whole").manifest.device
        fuzzer = Fuzzer(seeds, options.keep, options.seed)
        targets: dict[str, tuple[Callable[[random.Random, Path], Path], Callable[[Path], Any], int]] = {
            "manifest, bytes": (fuzzer.folder("finished", change_file("manifest.json", mutate_bytes)), read_folder, 10),
            "manifest, values": (fuzzer.folder("finished", change_file("manifest.json", mutate_json)), read_folder, 15),
            "Parquet, bytes": (fuzzer.folder("finished", lambda r, p: change_part(r, p, flip_part)), read_folder, 15),
            "Parquet, values": (
                fuzzer.folder("finished", lambda r, p: change_part(r, p, mutate_cells)),
                read_folder,
                25,
            ),
            "spool, bytes": (fuzzer.folder("killed", change_spool), read_folder, 15),
            "own trace, values": (fuzzer.file("own.json", mutate_json), import_file, 10),
            "own trace, bytes": (fuzzer.file("own.json", mutate_bytes), import_file, 5),
            "torch's trace, bytes": (fuzzer.file("theirs.json", mutate_bytes), import_file, 10),
            "torch's trace, gzip": (fuzzer.file("theirs.json", mutate_zipped, ".json.gz"), import_file, 10),
        }
        if options.experiment:
            seeds["experiment"] = options.experiment
            for word, mutate in (("bytes", mutate_bytes), ("values", mutate_json)):
                make = fuzzer.file("experiment", mutate)
                targets[f"experiment, {word}"] = (_inside_folder(make), read_experiment, 10)
        total = sum(weight for _, _, weight in targets.values())
        tallies = {
            name: fuzzer.run(name, make, read, options.count * weight // total)
            for name, (make, read, weight) in targets.items()
        }
    text = report(tallies, where(device))
    print(text)
    if options.output:
        options.output.write_text(text)
    return int(any(tally.failures for tally in tallies.values()))


def _inside_folder(make: Callable[[random.Random, Path], Path]) -> Callable[[random.Random, Path], Path]:
    """An experiment's folder with the mutant as its file."""

    def place_it(rng: random.Random, place: Path) -> Path:
        make(rng, place).rename(place / "experiment.json")
        return place

    return place_it


def report(tallies: dict[str, Tally], origin: str) -> str:
    rows = [
        (name, f"{tally.read + tally.refused + len(tally.failures):,}", f"{tally.refused:,}", f"{tally.read:,}",
         len(tally.failures), f"{tally.slowest_s:.2f}")
        for name, tally in tallies.items()
    ]  # fmt: skip
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    count = sum(tally.read + tally.refused + len(tally.failures) for tally in tallies.values())
    listed = "\n".join(f"- {failure}" for failure in failures[:50])
    return (
        f"# Readers on hostile input\n\n{count:,} mutants of real files; {len(failures)} ended in anything but a run "
        "or one line.\nOf what was still read, one in five went through the summary, too.\n\n"
        + markdown_table(("mutants of", "inputs", "refused in one line", "read", "tracebacks", "slowest, s"), rows)
        + f"\n\n{listed}{chr(10) if listed else ''}{origin}"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
