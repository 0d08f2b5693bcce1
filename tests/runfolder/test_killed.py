"""A run folder whose writer was killed, or whose disk was full, can be read up to its last whole row."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import make_manifest

from tracekit.model import FRAMES, SPANS
from tracekit.runfolder import RunWriter, read_run
from tracekit.runfolder.reader import KILLED

TESTS = Path(__file__).parents[1]
PRELUDE = """
import resource, sys, threading
sys.path.insert(0, {tests!r})
from pathlib import Path
from builders import make_manifest
from tracekit.errors import UsageError
from tracekit.model import COUNTERS, SPANS
from tracekit.runfolder import RunWriter
writer = RunWriter.create(Path(sys.argv[1]), make_manifest())
"""
ENDLESS = """
def work(thread):
    for index in range(10**9):
        row = (f"{thread}:{index}", f"{index % 7}", "", 0, thread, index, index)
        writer.append(SPANS, 4 * index + thread, -1, "forward", *row)
        if index % 50 == 0:
            writer.flush()
for thread in range(3):
    threading.Thread(target=work, args=(thread,), daemon=True).start()
print("started", flush=True)
work(3)
"""
FULL = """
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
index = 0
try:
    while True:
        writer.append(COUNTERS, "x", 0, index, 1.0)
        index += 1
except UsageError as error:
    print(error)
"""
FULL_AT_THE_END = """
for index in range(200_000):
    writer.append(COUNTERS, f"series {index}", 0, index, float(index))
writer.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    writer.finish(make_manifest())
except UsageError as error:
    print(error)
"""


def start(code: str, path: Path) -> subprocess.Popen[str]:
    script = PRELUDE.format(tests=str(TESTS)) + code
    return subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("seed", range(4))
def test_after_kill_9_each_threads_rows_are_a_prefix(tmp_path, seed):
    path = tmp_path / "run"
    with start(ENDLESS, path) as process:
        assert process.stdout.readline() == "started\n"
        # Some moment in the middle of the work: any is right, so none is waited for.
        time.sleep(random.Random(seed).uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
    run = read_run(path)
    assert (run.manifest.complete, run.manifest.incomplete_reason) == (False, KILLED)
    assert len(run.spans) > 0
    for thread, own in run.spans.groupby("thread_id"):
        assert own["start_ns"].tolist() == list(range(len(own)))
        assert own["name"].tolist() == [f"{thread}:{index}" for index in range(len(own))]
        assert own["fqn"].tolist() == [f"{index % 7}" for index in range(len(own))]


def test_a_spool_cut_at_any_byte_holds_the_whole_rows_before(tmp_path):
    path = tmp_path / "run"
    writer = RunWriter.create(path, make_manifest())
    for index in range(4):
        writer.append(FRAMES, f"function {index}", 1, index, index)
    writer.flush()
    for name in ("frames.rows", "strings.bin"):
        file = path / "spool" / name
        data = file.read_bytes()
        seen = set()
        for size in range(len(data) + 1):
            file.write_bytes(data[:size])
            names = read_run(path).frames["name"].tolist()
            assert names == [f"function {index}" for index in range(len(names))]
            seen.add(len(names))
        assert seen == {0, 1, 2, 3, 4}


def test_a_disk_that_fills_up_is_one_line_and_keeps_what_was_written(tmp_path):
    path = tmp_path / "run"
    with start(FULL, path) as process:
        said = process.stdout.read()
    assert said == f"no space left to write the run folder {path}: free some, or choose another --output\n"
    counters = read_run(path).counters
    assert len(counters) > 10_000
    assert counters["t_ns"].tolist() == list(range(len(counters)))


def test_a_disk_too_full_for_parquet_keeps_the_rows_and_leaves_no_part(tmp_path):
    path = tmp_path / "run"
    with start(FULL_AT_THE_END, path) as process:
        said = process.stdout.read()
    assert said == f"no space left to write the run folder {path}: free some, or choose another --output\n"
    assert list((path / "counters").iterdir()) == []
    run = read_run(path)
    assert run.counters["t_ns"].tolist() == list(range(200_000))
    assert run.manifest.complete is False


def test_rows_are_in_the_file_before_the_process_does_anything_else(tmp_path):
    writer = RunWriter.create(tmp_path / "run", make_manifest())
    writer.append(SPANS, 0, -1, "run", "a", "", "", 0, 1, 2, 3)
    assert len(read_run(tmp_path / "run").spans) == 0
    writer.flush()
    assert read_run(tmp_path / "run").spans["name"].tolist() == ["a"]
