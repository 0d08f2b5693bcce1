"""Classes of a pipeline are imported before it is loaded, and whatever its index says nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tracekit.errors import UsageError
from tracekit.workload.classes import import_classes
from tracekit.workload.pipeline import find_folder

IMPORTED = """
import sys
from pathlib import Path
from tracekit.workload.classes import import_classes
import_classes(Path(sys.argv[1]))
before = set(sys.modules)
from tracekit.workload.pipeline import load_pipeline
load_pipeline(sys.argv[1], None)
new = {name for name in set(sys.modules) - before if name.startswith(("diffusers.models", "diffusers.pipelines"))}
print(sorted(new))
"""


def test_loading_imports_no_model_and_no_pipeline_after_it() -> None:
    folder = find_folder("synthetic:flux-tiny")
    ran = subprocess.run([sys.executable, "-c", IMPORTED, str(folder)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_what_an_index_names_elsewhere_is_not_imported(tmp_path: Path) -> None:
    for number, value in enumerate((["this", "s"], ["diffusers", 3], ["diffusers"], [None, None], "this", ["a"] * 9)):
        named = {"_class_name": "NextYearsPipeline", "part": value}
        (tmp_path / "model_index.json").write_text(json.dumps(named))
        import_classes(tmp_path)
        assert "this" not in sys.modules, number


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no diffusers pipeline"):
        import_classes(tmp_path)
