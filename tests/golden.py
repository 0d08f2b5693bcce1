"""Golden files: a renderer's exact output on a small input, kept beside the renderers' tests.

``TRACEKIT_UPDATE_GOLDEN=1 pytest tests/render tests/experiment tests/cli/test_doctor.py`` writes them anew;
read the difference before committing it.
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "render" / "golden"
_CELL = re.compile(r"</(?:td|th|dt)>")
_BLOCK = re.compile(r"</?(?:p|h\d|li|tr|div|section|dd|pre|summary|caption|label|button)\b[^>]*>")
_TAG = re.compile(r"<[^>]*>")


def assert_golden(name: str, text: str) -> None:
    path = FOLDER / name
    if os.environ.get("TRACEKIT_UPDATE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def page_text(page: str) -> str:
    """What a page says to a reader without scripts, styles and pictures: a line a block of its main part."""
    main = page.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    lines = _BLOCK.sub("\n", _CELL.sub(" | ", main)).splitlines()
    texts = (" ".join(html.unescape(_TAG.sub(" ", line)).split()).strip(" |") for line in lines)
    return "\n".join(text for text in texts if text) + "\n"
