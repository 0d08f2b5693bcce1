"""The plan that a run folder keeps."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tracekit.model.plan import OffloadPlan
from tracekit.runfolder.paths import PLAN_NAME, UNREADABLE_JSON


def read_plan(folder: Path) -> OffloadPlan | None:
    """The plan that was kept in a run folder; None where there is none that this version reads."""
    try:
        return msgspec.json.decode((folder / PLAN_NAME).read_bytes(), type=OffloadPlan)
    except (OSError, *UNREADABLE_JSON):
        return None
