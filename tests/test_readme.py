"""The README tells the truth: its commands and options exist, its Python runs, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from tracekit.cli.main import group
from tracekit.offload.modes import HOST_MEMORIES, group_refusals, modes
from tracekit.workload.synthetic import PREFIX, SYNTHETIC

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "reports").glob("*.md")),
]
# What is commented out is not shown.
TEXT = re.sub(r"<!--.*?-->", "", README.read_text(), flags=re.DOTALL)

MAX_PICTURE_BYTES = 400_000
CHECKPOINT = "tracekit checkpoint flux-tiny flux-tiny"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def commands() -> Iterator[list[str]]:
    """Every command line in the README's shell blocks, without `tracekit` itself."""
    for block in blocks("sh"):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == "tracekit"
            yield words


def section(title: str) -> str:
    """A section of the README, up to the next heading of its level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, flags=re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def options_of(name: str) -> set[str]:
    """The long options of a command and of those below it, and `-m`, which has no long form."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    below = command.commands.values() if isinstance(command, click.Group) else ()
    params = [param for one in (command, *below) for param in one.params]
    return {max(option.opts, key=len) for option in params if isinstance(option, click.Option)}


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_command_line_is_understood(words: list[str]) -> None:
    name, *arguments = words
    command = group.get_command(click.Context(group), name)
    assert command is not None
    # Parses and checks every option without running the command.
    command.make_context(name, arguments)


def test_every_command_and_option_is_there_and_no_other() -> None:
    text = section("Commands")
    names = group.list_commands(click.Context(group))
    assert {name for name in names if f"`{name} " not in text and f"`{name}`" not in text} == set()
    mentioned = set(re.findall(r"(?<![\w-])(--?[a-z][\w-]*)", TEXT)) - {"--help", "-e", "-o", "-9"}
    known = set().union(*(options_of(name) for name in names))
    not_tracekits = {"-m"} - known
    assert mentioned - not_tracekits == known


def test_the_built_in_pipelines_are_named() -> None:
    assert set(re.findall(rf"`({PREFIX}[\w-]+)`", TEXT)) == {PREFIX + name for name in SYNTHETIC}


def test_the_matrix_of_modes_and_host_memories_is_what_is_refused() -> None:
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in section("Modes and host memory").splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["mode", *HOST_MEMORIES]
    said = {row[0]: {memory for memory, cell in zip(rows[0][1:], row[1:], strict=True) if cell.startswith("no: ")}
            for row in rows[2:]}  # fmt: skip
    refused = {name: set(mode.refusals) for name, mode in modes().items()}
    for options in ((True, False, False), (True, True, False), (False, False, True)):
        stream, low_cpu_mem, disk = options
        flags = " --stream" * stream + " --low-cpu-mem" * low_cpu_mem + " --offload-to-disk DIR" * disk
        refused["group" + flags] = set(group_refusals(stream=stream, low_cpu_mem=low_cpu_mem, disk=disk))
    assert said == refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint that the README has made."""
    path = tmp_path_factory.mktemp("readme")
    assert CHECKPOINT in blocks("sh")[0]
    subprocess.run([sys.executable, "-m", *CHECKPOINT.split()], cwd=path, check=True, capture_output=True)
    return path


def test_the_python_runs_on_the_emulated_device(folder: Path) -> None:
    assert len(blocks("python")) == 3
    for code in blocks("python"):
        compile(code, README.name, "exec")
        # The README's own line for a machine without a GPU comes first.
        (load,) = re.findall(r"`(from tracekit\.device import emulated; emulated\.load\(\))`", TEXT)
        done = subprocess.run(
            [sys.executable, "-c", f"{load}\n{code}"], cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
    assert {path.name for path in (folder / "runs").iterdir()} == {"pipeline", "module"}
    assert (folder / "step-1.json.gz").exists()


def test_the_demo_prints_what_is_shown(tmp_path: Path) -> None:
    (shown,) = blocks("text")
    (command,) = re.findall(r"^run tracekit (.*) \"\$@\"$", (ROOT / "scripts/demo").read_text(), re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-m", "tracekit", *command.split()], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert fixed_lines(shown) == fixed_lines(done.stderr)


def fixed_lines(text: str) -> list[str]:
    """What every run of the demo prints alike: lines without figures, and the beginnings of those with paths."""
    text = re.sub(r"^(Run|Trace|Report|Next:) .*", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^in m?s;", "in:", text, flags=re.MULTILINE)
    # Two spaces: a table's heading, not a sentence of the verdict.
    kept = ("FluxPipeline", "step  ", "in: ", "cause  ", "Run", "Trace", "Report", "Next:")
    return [
        " ".join(line.split()) for line in text.splitlines() if line.startswith(kept) and not re.search(r"\d", line)
    ]


def headings(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in headings(file.read_text())):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("picture", re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT))
def test_a_picture_is_one_and_small(picture: str) -> None:
    data = (ROOT / picture).read_bytes()
    assert data.startswith((b"\x89PNG", b"<svg"))
    assert len(data) < MAX_PICTURE_BYTES


def test_what_it_costs_is_in_a_report() -> None:
    # A report gives a unit once for several figures, so of all but shares only the number is looked for.
    figures = re.findall(r"(?<![\w.])[+-]?\d[\d.,]*\d%?", section("What it costs"))
    reported = " ".join(path.read_text() for path in (ROOT / "reports").glob("*.md"))
    assert figures
    assert [figure for figure in figures if not re.search(rf"(?<![\w.]){re.escape(figure)}(?![\d.])", reported)] == []


def test_the_schema_page_is_up_to_date() -> None:
    module = load_script("make_schema_doc")
    assert module.PAGE.read_text() == module.schema_page(), "run scripts/make_schema_doc.py"


def load_script(name: str) -> ModuleType:
    """A script of scripts/, imported as a module."""
    path = ROOT / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
