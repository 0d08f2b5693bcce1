"""A callback comes right after its module's import, once, and leaves no trace."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tracekit
from tracekit.workload.importhook import when_imported

REPOSITORY = Path(tracekit.__file__).parents[1]


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules into an importable folder; what the test imported is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    finders = list(sys.meta_path)

    def write(name: str, text: str = "value = 1\n") -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()

    yield write
    assert sys.meta_path == finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_called_when_the_module_is_complete(modules):
    modules("awaited_a", "first = 1\nlast = 2\n")
    seen = []
    when_imported("awaited_a", lambda module: seen.append((module, module.last)))
    assert seen == []
    imported = importlib.import_module("awaited_a")
    assert seen == [(imported, 2)]


def test_called_now_when_already_imported(modules):
    seen = []
    when_imported("json", seen.append)
    assert seen == [importlib.import_module("json")]


def test_submodules_by_any_import_statement(modules):
    modules("awaited_pkg.__init__", "from awaited_pkg.inner import deep\n")
    modules("awaited_pkg.inner.__init__", "")
    modules("awaited_pkg.inner.deep", "value = 3\n")
    seen = []
    when_imported("awaited_pkg.inner.deep", lambda module: seen.append(module.value))
    importlib.import_module("awaited_pkg")
    assert seen == [3]


def test_several_callbacks_in_order_and_once(modules):
    modules("awaited_b")
    seen = []
    for number in range(3):
        when_imported("awaited_b", lambda _module, number=number: seen.append(number))
    module = importlib.import_module("awaited_b")
    importlib.reload(module)
    assert seen == [0, 1, 2]


def test_removed_before_the_import(modules):
    modules("awaited_c")
    seen = []
    kept = when_imported("awaited_c", lambda _module: seen.append("kept"))
    when_imported("awaited_c", lambda _module: seen.append("removed")).remove()
    importlib.import_module("awaited_c")
    assert seen == ["kept"]
    kept.remove()


def test_removing_the_last_one_leaves_no_finder(modules):
    before = list(sys.meta_path)
    awaited = when_imported("awaited_never", lambda _module: None)
    assert sys.meta_path != before
    awaited.remove()
    assert sys.meta_path == before


def test_a_failing_import_is_awaited_again(modules):
    modules("awaited_d", "raise RuntimeError('first time')\n")
    seen = []
    when_imported("awaited_d", seen.append)
    with pytest.raises(RuntimeError, match="first time"):
        importlib.import_module("awaited_d")
    assert seen == []
    modules("awaited_d", "value = 'the second time, with another length'\n")
    assert seen == [importlib.import_module("awaited_d")]


def test_a_module_that_is_not_there_is_not_invented(modules):
    awaited = when_imported("awaited_nowhere", lambda _module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("awaited_nowhere")
    awaited.remove()


def test_the_module_sees_its_own_loader(modules):
    modules("awaited_e", "loader_then = __spec__.loader\n")
    modules("plain_e")
    when_imported("awaited_e", lambda _module: None)
    module, plain = (importlib.import_module(name) for name in ("awaited_e", "plain_e"))
    assert type(module.__loader__) is type(plain.__loader__)
    assert module.__spec__.loader is module.__loader__ is module.loader_then


def test_looking_for_a_module_is_no_import(modules):
    modules("awaited_f", "value = 5\n")
    seen = []
    awaited = when_imported("awaited_f", seen.append)
    spec = importlib.util.find_spec("awaited_f")
    assert spec.loader.get_source("awaited_f") == "value = 5\n"
    assert seen == []
    awaited.remove()


def test_a_lazy_module_is_what_it_put_in_its_place(modules):
    modules("awaited_lazy", "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(lazy=True)\n")
    seen = []
    when_imported("awaited_lazy", lambda module: seen.append(module.lazy))
    importlib.import_module("awaited_lazy")
    assert seen == [True]


def test_what_the_callback_raises_the_import_raises(modules):
    modules("awaited_g")

    def fail(_module):
        raise LookupError("from the callback")

    when_imported("awaited_g", fail)
    with pytest.raises(LookupError, match="from the callback"):
        importlib.import_module("awaited_g")


def test_a_callback_may_await_and_import(modules):
    modules("awaited_h")
    modules("awaited_i")
    seen = []

    def also(_module):
        when_imported("awaited_i", lambda module: seen.append(module.__name__))
        importlib.import_module("awaited_i")

    when_imported("awaited_h", also)
    importlib.import_module("awaited_h")
    assert seen == ["awaited_i"]


def test_threads_importing_and_awaiting_at_once(modules):
    names = [f"awaited_thread_{number}" for number in range(40)]
    for name in names:
        modules(name, "import time\ntime.sleep(0)\ndone = True\n")
    seen = []
    start = threading.Barrier(4)

    def work(task):
        start.wait()
        for name in names:
            task(name)

    tasks = [importlib.import_module] * 2 + [
        lambda name: when_imported(name, lambda module: seen.append((module.__name__, module.done)))
    ] * 2
    threads = [threading.Thread(target=work, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted([(name, True) for name in names] * 2)


def test_the_libraries_that_are_profiled_are_seen(tmp_path):
    program = """
import sys
from tracekit.workload.importhook import when_imported

expected = {
    "torch": "Tensor",
    "accelerate.hooks": "AlignDevicesHook",
    "diffusers.hooks.group_offloading": "ModuleGroup",
    "diffusers.pipelines.pipeline_utils": "DiffusionPipeline",
}
seen = []
for name, attribute in expected.items():
    when_imported(name, lambda module, attribute=attribute: seen.append((module.__name__, hasattr(module, attribute))))
assert not {"torch", "accelerate", "diffusers"} & set(sys.modules)
from diffusers import FluxPipeline
assert sorted(seen) == sorted((name, True) for name in expected), seen
assert not any("tracekit" in type(finder).__module__ for finder in sys.meta_path)
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
