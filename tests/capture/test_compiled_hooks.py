"""The compiled hooks as objects: they pass for functions, keep nothing alive, and are built once or done without."""

from __future__ import annotations

import gc
import inspect
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tracekit.capture import native
from tracekit.capture.hooks import VARIABLE, make_hooks
from tracekit.capture.patches import Patches
from tracekit.capture.registry import Entries, ModuleEntry
from tracekit.errors import UsageError
from tracekit.model import COPIES, NONE, SPANS
from tracekit.runfolder import RunWriter, read_run

from .conftest import blank_manifest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    return RunWriter.create(tmp_path / "run", blank_manifest())


@pytest.fixture
def made(writer: RunWriter, hooks: str) -> Any:
    """Hooks of either kind over a run folder."""
    return make_hooks(writer, {}, [NONE])[0]


def spans_of(writer: RunWriter) -> Any:
    writer.finish(blank_manifest())
    return read_run(writer.path).spans.sort_values("span_id", ignore_index=True)


class Greeter:
    def greet(self, name: str, *, mark: str = "!") -> str:
        """Say hello."""
        return f"hello {name}{mark}"

    def fail(self) -> None:
        raise KeyError("theirs")


def test_a_hook_passes_for_the_method_it_stands_in_for(made, writer: RunWriter) -> None:
    patches = Patches()
    before = dict(vars(Greeter))
    patches.wrap(Greeter, "greet", lambda original: made.timed(original, 0, writer.intern("greet"), 0))
    try:
        assert Greeter().greet("you", mark="?") == "hello you?"
        assert Greeter.greet(Greeter(), "you") == "hello you!"
        bound = Greeter().greet
        assert bound("me") == "hello me!"
        assert (Greeter.greet.__name__, Greeter.greet.__doc__) == ("greet", "Say hello.")
        assert list(inspect.signature(Greeter.greet).parameters) == ["self", "name", "mark"]
        assert list(inspect.signature(Greeter().greet).parameters) == ["name", "mark"]
        assert inspect.unwrap(Greeter.greet) is before["greet"]
    finally:
        patches.remove()
    assert dict(vars(Greeter)) == before
    assert bound("late") == "hello late!"  # what was bound meanwhile still works
    assert list(spans_of(writer).name) == ["greet"] * 4


def test_an_exception_passes_with_its_traceback_and_closes_the_span(made, writer: RunWriter) -> None:
    outer, fail = made.open(0), made.timed(Greeter.fail, 0, writer.intern("fail"), 0)
    with pytest.raises(KeyError, match="theirs") as caught:
        fail(Greeter())
    assert caught.traceback[-1].name == "fail"
    made.open(0)  # left open, as by an exception
    made.close(outer, 0, writer.intern("outer"), 0)
    spans = spans_of(writer)
    assert list(spans.name) == ["outer", "fail"]
    assert list(spans.parent_id) == [NONE, 0]


def test_deep_nesting_has_every_parent(made, writer: RunWriter) -> None:
    name = writer.intern("nested")
    opened = [made.open(0) for _ in range(500)]
    for one in reversed(opened):
        made.close(one, 0, name, 0)
    spans = spans_of(writer)
    assert list(spans.parent_id) == list(range(-1, 499))
    assert (spans.start_ns <= spans.end_ns).all()


def test_threads_nest_apart_while_the_buffer_is_written_out(made, writer: RunWriter) -> None:
    names = [writer.intern(f"thread {index}") for index in range(4)]

    def work(name: int) -> None:
        call = made.timed(lambda depth: depth and call(depth - 1), 0, name, 0)
        for _ in range(1500):
            call(4)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        writer.flush()
    for thread in threads:
        thread.join()
    spans = spans_of(writer)
    assert len(spans) == spans.span_id.nunique() == 4 * 1500 * 5
    assert (spans.groupby("name", observed=True).thread_id.nunique() == 1).all()
    parents = spans[spans.parent_id != NONE]
    threads_of = spans.set_index("span_id").thread_id
    assert (threads_of.loc[parents.parent_id].to_numpy() == parents.thread_id.to_numpy()).all()


def test_every_clock_reading_is_on_pythons_clock(made, writer: RunWriter) -> None:
    before = time.monotonic_ns()
    made.close(made.open(0), 0, writer.intern("now"), 0)
    [span] = spans_of(writer).itertuples()
    assert before <= span.start_ns <= span.end_ns <= time.monotonic_ns()


def test_calls_leave_no_references_behind(made) -> None:
    class Module(nn.Module):
        def forward(self, x: object, *, key: object = None) -> object:
            return x

    module, value, entries = Module(), object(), {}
    entries[id(module)] = (0, 0, 0, "net")
    call = made.forward(nn.Module.__call__, entries)
    counted = (module, value, entries[id(module)], made.component)
    before = [sys.getrefcount(one) for one in counted]
    for _ in range(1000):
        call(module, value, key=value)
    assert made.component == "net"
    after = [sys.getrefcount(one) for one in counted]
    assert after[:2] == before[:2]
    assert after[2] - before[2] <= 1


def test_an_entry_that_changes_or_goes_is_seen_at_once(made, writer: RunWriter) -> None:
    entries, module = Entries(), nn.Identity()
    entries.changed = made.forget_modules
    call = made.forward(nn.Module.__call__, entries)
    for note in ("first", "second"):
        entries[id(module)] = ModuleEntry(0, 0, writer.intern(note), "net")
        call(module, 1)
        call(module, 1)
    entries.forget(id(module))
    call(module, 1)
    assert list(spans_of(writer).note) == ["first", "first", "second", "second"]


def test_failures_and_copies_leave_no_references_behind(recording, emulated) -> None:
    host = torch.rand(7)
    device = torch.device("emulated:0")
    with recording():
        host.to(device)
        before = sys.getrefcount(host), sys.getrefcount(device)
        gc.collect()
        blocks = sys.getallocatedblocks()
        for _ in range(2000):
            host.to(device)
            with pytest.raises(RuntimeError):
                host.to("nonsense")
        gc.collect()
        assert (sys.getrefcount(host), sys.getrefcount(device)) == before
        # Weights' places, rows and caches are a few objects; a leak would be one a call at least.
        assert sys.getallocatedblocks() - blocks < 1000


class Owner:
    sample: Any


def test_hooks_that_are_let_go_are_collected(writer: RunWriter, hooks: str) -> None:
    def make_cycles() -> weakref.ref[Owner]:
        made = make_hooks(writer, {}, [NONE])[0]
        owner = Owner()
        owner.sample = made.timed(lambda: owner, 0, 0, 0)
        made.sample_memory = lambda: owner
        made.close(made.open(0), 0, 0, 0)
        return weakref.ref(owner)

    alive = make_cycles()
    gc.collect()
    assert alive() is None


def test_rows_of_another_layout_are_refused(writer: RunWriter) -> None:
    compiled = native.load()
    with pytest.raises(TypeError, match="compiled row must change"):
        compiled.Hooks(threading.local(), writer.buffer(COPIES), 0, 0)
    compiled.Hooks(threading.local(), writer.buffer(SPANS), 0, 0)


def test_an_unknown_kind_of_hooks_is_refused(writer: RunWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(UsageError, match="set it to compiled or python"):
        make_hooks(writer, {}, [NONE])


PROFILE = """
import torch, tracekit
with tracekit.profile(torch.nn.Linear(3, 3), output=OUTPUT) as run:
    pass
print(run.manifest.versions["recorder"], *run.manifest.warnings)
"""


@pytest.mark.parametrize("compiler", ["missing", "broken"])
def test_without_a_working_compiler_python_records_and_says_so(compiler: str, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 1\n")
    broken.chmod(0o755)
    command = {"missing": "no-compiler-of-this-name", "broken": str(broken)}[compiler]
    done = subprocess.run(
        [sys.executable, "-c", PROFILE.replace("OUTPUT", repr(str(tmp_path / "run")))],
        cwd=REPOSITORY,
        env={**os.environ, "CC": command, "HOME": str(tmp_path), VARIABLE: ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    kind, _, warning = done.stdout.partition(" ")
    assert kind == "python", done.stderr
    assert "the hooks run in Python and cost several times more" in warning
    if compiler == "missing":
        assert "install it with: apt-get install" in warning
    else:
        log = Path(warning.strip().rsplit(" ", 1)[-1])
        assert "no such luck" in log.read_text()


def test_the_sources_compile_without_warnings(tmp_path: Path) -> None:
    command = native.compile_command(tmp_path / "checked.so")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
