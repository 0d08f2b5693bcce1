"""Golden files: a renderer's exact output on a small input, kept beside the renderers' tests.

``TRACEKIT_UPDATE_GOLDEN=1 pytest tests/render tests/experiment`` writes them anew;
read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "render" / "golden"


def assert_golden(name: str, text: str) -> None:
    path = FOLDER / name
    if os.environ.get("TRACEKIT_UPDATE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
