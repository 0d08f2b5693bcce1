"""The examples of docs/python-api.md, run in their order on a tiny real pipeline, and what they end with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tracekit.api import Run
from tracekit.device.emulated import load
from tracekit.model.compare import Comparison
from tracekit.workload.pipeline import find_folder

GUIDE = Path(__file__).parents[2] / "docs" / "python-api.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The names that the examples leave behind, and the folder in which they ran as ``folder``."""
    import torch

    load()
    folder = tmp_path_factory.mktemp("examples")
    names: dict[str, Any] = {
        "MODEL": find_folder("synthetic:flux-tiny"),
        "DEVICE": torch.device("emulated:0"),
        "CALL": {"prompt": "a cat", "num_inference_steps": 3, "height": 64, "width": 64, "output_type": "latent"},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, block in enumerate(BLOCK.findall(GUIDE.read_text()), 1):
            exec(compile(block, f"{GUIDE.name}, example {number}", "exec"), names)
    return names | {"folder": folder}


def test_the_examples_recorded_the_pipeline(ran: dict[str, Any]) -> None:
    run = ran["run"]
    assert isinstance(run, Run)
    assert [step.step_index for step in ran["summary"].steps] == [0, 1, 2]
    assert run.manifest.device.kind == "emulated"
    assert ran["weights"]["duration_ns"].sum() == ran["by_module"].sum() > 0
    assert set(ran["onloads"]["kind"]) == {"onload"}


def test_the_examples_wrote_what_they_say(ran: dict[str, Any]) -> None:
    folder = ran["folder"]
    assert (folder / "runs/mine/manifest.json").exists()
    assert (folder / "mine.html").read_text() == ran["page"]
    assert (folder / "mine.json.gz").stat().st_size > 1000


def test_the_examples_drew_and_compared(ran: dict[str, Any]) -> None:
    assert ran["figure"].layout.title.text == "My run"
    assert isinstance(ran["comparison"], Comparison)
    assert {row.difference for row in ran["comparison"].times} == {0}


def test_every_attribute_that_the_guide_names_is_there(ran: dict[str, Any]) -> None:
    for name in re.findall(r"`run\.(\w+)(?:\.\w+)?(?:\(\))?`", GUIDE.read_text()):
        assert hasattr(ran["run"], name), name
