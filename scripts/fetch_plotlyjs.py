#!/usr/bin/env python
"""Fetch the plotly.js that reports carry, check it, and put it into the package.

The Python package plotly ships only the full bundle, three times the size of the one with Cartesian charts alone, which
npm has as plotly.js-cartesian-dist-min. For another version: change the three constants, run this, and run the tests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
import urllib.request
from pathlib import Path

VERSION = "4.1.1"
TARBALL = f"https://registry.npmjs.org/plotly.js-cartesian-dist-min/-/plotly.js-cartesian-dist-min-{VERSION}.tgz"
SHA256 = "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"
"""Of the unpacked script. tests/render/html compares it with the package's."""
FOLDER = Path(__file__).parents[1] / "tracekit" / "render" / "html" / "vendor"


def main() -> int:
    with urllib.request.urlopen(TARBALL) as answer, tarfile.open(fileobj=io.BytesIO(answer.read())) as archive:
        script, licence = (_member(archive, name) for name in ("plotly-cartesian.min.js", "LICENSE"))
    found = hashlib.sha256(script).hexdigest()
    if found != SHA256:
        print(f"the script's SHA-256 is {found}, not {SHA256}", file=sys.stderr)
        return 1
    (FOLDER / "plotly-cartesian.min.js.gz").write_bytes(gzip.compress(script, 9, mtime=0))
    (FOLDER / "plotly-LICENSE.txt").write_bytes(licence)
    print(f"plotly.js {VERSION} in {FOLDER}")
    return 0


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(f"package/{name}")
    assert stream is not None
    return stream.read()


if __name__ == "__main__":
    sys.exit(main())
