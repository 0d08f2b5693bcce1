"""A script run through tracekit behaves as under plain python: arguments, paths, streams, exit code, traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tracekit

REPOSITORY = Path(tracekit.__file__).parents[1]

RUNNER = """
import sys
from tracekit.errors import UsageError
from tracekit.workload.script import run_module, run_script, script_traceback

kind, name, *args = sys.argv[1:]
try:
    (run_module if kind == "-m" else run_script)(name, args)
except UsageError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
except Exception as error:
    sys.excepthook(type(error), error.with_traceback(script_traceback(error)), None)
    sys.exit(1)
"""
"""What the command line does around a script."""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner" / "runner.py").write_text(RUNNER)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def run(command: list[str], folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False
    )


def both(folder: Path, *command: str, text: str = "") -> tuple[subprocess.CompletedProcess[str], ...]:
    """The same command under plain python and through tracekit."""
    kind = () if command[0] == "-m" else ("script",)
    ours = run([str(folder.parent / "runner" / "runner.py"), *kind, *command], folder, text)
    return run(list(command), folder, text), ours


def assert_same(plain: subprocess.CompletedProcess[str], ours: subprocess.CompletedProcess[str]) -> None:
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)


ABOUT_ITSELF = """
import os, sys
import helper
print(sys.argv, sys.path[0], os.getcwd())
print(__name__, __file__, __spec__, __package__, __doc__, type(__loader__).__name__, type(__builtins__).__name__)
print(sys.modules["__main__"].__dict__ is globals(), sorted(globals()))
print(helper.caller())
"""
HELPER = "import sys\ndef caller():\n    return sys._getframe(1).f_globals['__name__']\n"


@pytest.mark.parametrize("path", ["script.py", "./sub/../script.py", "sub/linked.py"])
def test_a_script_finds_itself_as_under_python(folder, path):
    (folder / "script.py").write_text(ABOUT_ITSELF)
    (folder / "helper.py").write_text(HELPER)
    (folder / "sub").mkdir()
    (folder / "sub" / "linked.py").symlink_to(folder / "script.py")
    plain, ours = both(folder, path, "--steps", "3", "-m", "two words")
    assert plain.returncode == 0
    assert_same(plain, ours)


def test_streams_are_the_scripts_own(folder):
    (folder / "script.py").write_text("import sys\nprint(sys.stdin.read()[::-1])\nprint('e', file=sys.stderr)\n")
    plain, ours = both(folder, "script.py", text="abc")
    assert plain.stdout == "cba\n"
    assert_same(plain, ours)


@pytest.mark.parametrize("code", ["0", "7", "None", "'a message'", "True"])
def test_exit_codes(folder, code):
    (folder / "script.py").write_text(f"import sys\nsys.exit({code})\n")
    assert_same(*both(folder, "script.py"))


@pytest.mark.parametrize(
    "text",
    [
        "def fail():\n    1 / 0\n\nfail()\n",
        "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error\n",
        "import json\njson.loads('{')\n",
        "x = = 1\n",
        "raise ExceptionGroup('g', [ValueError(1)])\n",
        "import runpy\nrunpy.run_path('other.py')\n",
    ],
    ids=["plain", "chained", "in a library", "syntax", "group", "runpy"],
)
def test_tracebacks_begin_at_the_script(folder, text):
    (folder / "script.py").write_text(text)
    (folder / "other.py").write_text("1 / 0\n")
    plain, ours = both(folder, "script.py")
    assert plain.returncode == 1
    assert_same(plain, ours)


def test_the_scripts_own_excepthook_is_used(folder):
    (folder / "script.py").write_text("import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__)\n1 / 0\n")
    plain, ours = both(folder, "script.py")
    assert plain.stdout == "hook ZeroDivisionError\n"
    assert_same(plain, ours)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_finds_the_main_module(folder, method):
    (folder / "script.py").write_text(
        "import multiprocessing\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context('{method}').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
    )
    plain, ours = both(folder, "script.py")
    assert plain.stdout == "[2, 4]\n"
    assert_same(plain, ours)


def test_its_classes_can_be_pickled(folder):
    (folder / "script.py").write_text(
        "import pickle\nclass A:\n    pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)\n"
    )
    plain, ours = both(folder, "script.py")
    assert plain.stdout == "True\n"
    assert_same(plain, ours)


def test_threads_and_exit_handlers_outlive_the_script(folder):
    (folder / "script.py").write_text(
        "import atexit, threading, time\nvalue = 'still here'\n"
        "def later():\n    time.sleep(0.1)\n    print(value)\n"
        "threading.Thread(target=later).start()\natexit.register(lambda: print('bye', value))\n"
    )
    plain, ours = both(folder, "script.py")
    assert plain.stdout == "still here\nbye still here\n"
    assert_same(plain, ours)


def test_a_module_runs_as_under_python(folder):
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").write_text("print('package', __name__)\n")
    (folder / "pkg" / "mod.py").write_text(
        "import sys\nfrom . import __name__ as package\n"
        "print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__.name, package)\nsys.exit(5)\n"
    )
    plain, ours = both(folder, "-m", "pkg.mod", "--steps", "3")
    assert plain.returncode == 5
    assert_same(plain, ours)


def test_a_package_runs_its_main(folder):
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__main__.py").write_text("import sys\nprint(sys.argv, __package__, __spec__.name)\n")
    plain, ours = both(folder, "-m", "pkg", "x")
    assert plain.returncode == 0
    assert_same(plain, ours)


def test_a_modules_traceback_has_no_frames_of_ours(folder):
    (folder / "mod.py").write_text("def fail():\n    1 / 0\nfail()\n")
    plain, ours = both(folder, "-m", "mod")
    assert ours.returncode == plain.returncode == 1
    header, _, frames = plain.stderr.partition("\n")
    without_runpy = frames[frames.index(f'  File "{folder}') :]
    assert ours.stderr == f"{header}\n{without_runpy}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("missing.py",), "cannot open the script 'missing.py': No such file or directory"),
        ((".",), "cannot open the script '.': Is a directory"),
        (("-m", "no_such_module"), "no module 'no_such_module' to run"),
        (("-m", "json.nothing"), "no module 'json.nothing' to run"),
        (("-m", "logging"), "no module 'logging.__main__' to run"),
        (("-m", "json.decoder.inner"), "no module 'json.decoder.inner' to run"),
    ],
)
def test_what_cannot_be_run_is_one_line(folder, command, message):
    _, ours = both(folder, *command)
    assert ours.returncode == 2
    assert ours.stderr.count("\n") == 1
    assert message in ours.stderr


def test_a_package_that_fails_to_import_is_the_users_error(folder):
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").write_text("import no_such_dependency\n")
    (folder / "pkg" / "mod.py").touch()
    _, ours = both(folder, "-m", "pkg.mod")
    assert ours.returncode == 1
    assert "No module named 'no_such_dependency'" in ours.stderr


def test_arguments_and_paths_are_put_back(folder):
    (folder / "script.py").write_text("import sys\nsys.argv.append('x')\nsys.path.insert(0, '/theirs')\nsys.exit(3)\n")
    program = f"""
import sys
from tracekit.workload.script import run_script
before = list(sys.argv), list(sys.path), sys.modules["__main__"]
try:
    run_script({str(folder / "script.py")!r}, ["a"])
except SystemExit as error:
    assert error.code == 3
assert (sys.argv, sys.path, sys.modules["__main__"]) == before
assert not {{"torch", "diffusers", "numpy"}} & set(sys.modules)
"""
    assert run(["-c", program], folder).stderr == ""
