"""The package's structure: who may import whom, what is heavy, how long a module may be, what must be documented."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tracekit"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    {"model", "units", "errors"},
    {"workload", "offload", "capture", "device", "runfolder", "analysis", "render"},
    {"api", "experiment", "viewer"},
    {"cli"},
)
LAYER = {area: number for number, areas in enumerate(LAYERS) for area in areas}
SIDEWAYS = {("capture", "device")}
"""The one import within a layer: the emulated device keeps the log that capture records, as CUPTI does for CUDA."""
ROOT_FILES = {"__init__": {"api"}, "__main__": {"cli"}}
"""What the two modules outside the layers may import: the package hands out the API, ``python -m`` the commands."""

PROFILED = {"workload", "offload", "capture", "device"}
CONFINED = {
    "torch": PROFILED,
    "diffusers": PROFILED,
    "accelerate": PROFILED,
    "transformers": PROFILED,
    "safetensors": PROFILED,
    "viztracer": PROFILED,
    "pynvml": PROFILED,
    "plotly": {"render"},
    "rich": {"render", "cli"},
    "click": {"cli"},
}
"""The areas that may import a library, for each library that is slow to import or belongs in one place."""

MAX_LINES = 400
MAX_MEDIAN_LINES = 150


def area_of(path: Path) -> str:
    """The part of the package that a file belongs to: ``cli`` for tracekit/cli/main.py, ``units`` for units.py."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Every dotted name that the code imports anywhere: in functions, under TYPE_CHECKING, through importlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                yield str(node.args[0].value)


def violations(source: str, path: Path) -> list[str]:
    """What a file's imports break, one line each."""
    area = area_of(path)
    package = ".".join(path.relative_to(ROOT).parent.parts)
    broken = []
    for name in imported_names(ast.parse(source), package):
        library, _, rest = name.partition(".")
        if library == "tracekit":
            target = rest.partition(".")[0]
            if target in LAYER and not allowed(area, target):
                broken.append(f"{area} imports {name}")
        elif area not in CONFINED.get(library, {area}):
            broken.append(f"{area} imports {name}: only {sorted(CONFINED[library])} may")
    return broken


def allowed(area: str, target: str) -> bool:
    """Whether one area may import another: itself, one on a lower layer, or on the lowest layer any."""
    if area in ROOT_FILES:
        return target in ROOT_FILES[area]
    downwards = LAYER[target] < LAYER[area] or LAYER[area] == LAYER[target] == 0
    return area == target or downwards or (area, target) in SIDEWAYS


def test_every_file_belongs_to_a_layer() -> None:
    assert {area_of(path) for path in MODULES} <= LAYER.keys() | ROOT_FILES.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    assert violations(path.read_text(), path) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("units.py", "import tracekit.api"),
        ("model/tables.py", "from tracekit import analysis"),
        ("analysis/phases.py", "def f():\n    from tracekit.render.chrome import write_chrome_trace"),
        ("capture/clock.py", "if TYPE_CHECKING:\n    from ..analysis import phases"),
        ("offload/apply.py", "from .. import capture"),
        ("device/choice.py", "from tracekit.capture import clock"),
        ("workload/script.py", "import tracekit.device.choice"),
        ("api.py", "importlib.import_module('torch.cuda')"),
        ("api.py", "from tracekit.cli.main import main"),
        ("analysis/verdict.py", "def f():\n    import torch"),
        ("capture/nvml.py", "import plotly.graph_objects"),
        ("__init__.py", "from tracekit.capture import recorder"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str) -> None:
    assert len(violations(source, PACKAGE / file)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("units.py", "from tracekit.errors import UsageError"),
        ("capture/clock.py", "from .recorder import Recorder\nimport torch"),
        ("cli/show.py", "from tracekit import __version__, api"),
        ("render/terminal.py", "from tracekit.model import Summary\nimport rich.table, torchlike"),
    ],
)
def test_a_right_import_passes(file: str, source: str) -> None:
    assert violations(source, PACKAGE / file) == []


def test_modules_are_short() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in MODULES}
    assert {str(path): count for path, count in lines.items() if count > MAX_LINES} == {}
    assert statistics.median(lines.values()) < MAX_MEDIAN_LINES


def test_scripts_are_short() -> None:
    scripts = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert [str(path) for path in scripts if len(path.read_text().splitlines()) > MAX_LINES] == []


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The module's public functions and classes, and the public methods of these classes."""
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    while scopes:
        for node in scopes.pop().body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_":
                yield node
                if isinstance(node, ast.ClassDef):
                    scopes.append(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_public_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    first_line = (ast.get_docstring(tree) or "").partition("\n")[0]
    assert first_line.endswith("."), "the first line of a module's docstring is its single job, a sentence"
    undocumented = [
        node.name
        for node in public_definitions(tree)
        if ast.get_docstring(node) is None and "overload" not in map(ast.unparse, node.decorator_list)
    ]
    assert undocumented == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    if area_of(path) in {"cli", "__main__"}:
        return
    names = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert names.isdisjoint({"print", "exit", "quit", "sys.exit", "os._exit", "SystemExit"})


@pytest.mark.parametrize("code", ["import tracekit", "from tracekit.cli.main import main; main(['--help'])"])
def test_torch_is_not_imported_until_something_is_profiled(code: str) -> None:
    slow = ["torch", "diffusers", "accelerate", "transformers", "plotly", "pandas", "pyarrow", "viztracer", "rich"]
    probe = f"import sys; {code}; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_readme_never_installs_the_unrelated_distribution() -> None:
    wrong = re.compile(r"(pip3?|uv|pipx|poetry)[ \t]+(install|add)[ \t]+([^\s`]+[ \t]+)*?[\"']?tracekit(?!-offload)\b")
    assert wrong.search("pip install -U tracekit")
    assert wrong.search('pip install "tracekit>=1"')
    assert not wrong.search("pip install tracekit-offload")
    assert wrong.search((ROOT / "README.md").read_text()) is None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_users_own_script_is_executed(path: Path) -> None:
    """Run folders and traces come from strangers: nothing that runs what it reads may be near them."""
    tree = ast.parse(path.read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if path != PACKAGE / "workload" / "script.py":
        assert calls.isdisjoint({"eval", "exec", "compile", "__import__"})
    assert calls.isdisjoint({"torch.load", "np.load", "pd.read_pickle", "yaml.load", "os.system"})
    roots = {name.partition(".")[0] for name in imported_names(tree, "")}
    assert roots.isdisjoint({"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"})
