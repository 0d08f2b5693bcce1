#!/usr/bin/env python
"""Take the pictures of a report that the README and the docs show, in the test suite's own headless Chromium.

scripts/make_report_picture.py runs/RUN docs
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "render" / "html"))
from pages import opened

import tracekit

PICTURES = (
    ("report-light", 1440, 1640, "light"),
    ("report-dark", 1440, 1640, "dark"),
    ("report-phone", 420, 1700, "dark"),
)
"""Each picture's name, the page's width, the height from the top that is shown, and the theme."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        file = tracekit.load(options.run).write_report(Path(temporary) / "report.html")
        for name, width, height, theme in PICTURES:
            picture = options.folder / f"{name}.png"
            with opened(file, width, theme) as visit:
                clip = {"x": 0, "y": 0, "width": width, "height": height}
                visit.page.screenshot(path=picture, full_page=True, clip=clip)
            print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
