"""A pipeline's folder may hold Python code: none of it runs, since nobody can ask tracekit to trust it."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tracekit
from tracekit.errors import UsageError
from tracekit.workload.pipeline import load_pipeline
from tracekit.workload.synthetic import cached_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline's folder, in every place of which code lies that would leave a mark if it ran."""
    folder = Path(shutil.copytree(cached_folder("sd3-tiny"), tmp_path / "pipeline"))
    code = f"open({str(tmp_path / 'mark')!r}, 'w').close()\nclass Foreign: pass\n"
    for place in (folder, folder / "transformer", folder / "text_encoder"):
        (place / "foreign.py").write_text(code)
    return folder


def change(path: Path, **members: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | members))


HOSTILE = {
    "a component's class": ("model_index.json", {"transformer": ["foreign", "Foreign"]}),
    "the pipeline's class": ("model_index.json", {"_class_name": ["foreign", "Foreign"]}),
    "the pipeline's class by its name": ("model_index.json", {"_class_name": "foreign.Foreign"}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_code_that_a_folder_names_is_refused_in_one_line_and_does_not_run(what: str, folder: Path) -> None:
    name, members = HOSTILE[what]
    change(folder / name, **members)
    with pytest.raises(UsageError) as caught:
        load_pipeline(str(folder), None)
    assert "\n" not in str(caught.value)
    assert not (folder.parent / "mark").exists()


def test_code_beside_a_model_that_has_a_class_of_its_own_does_not_run(folder: Path) -> None:
    change(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "foreign.Foreign"})
    load_pipeline(str(folder), None)
    assert not (folder.parent / "mark").exists()


def test_trust_is_never_given_in_the_package() -> None:
    given = [
        ast.unparse(keyword.value)
        for path in Path(tracekit.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "trust_remote_code"
    ]
    assert given
    assert set(given) == {"False"}
