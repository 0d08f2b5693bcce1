"""What a run's rows themselves say about how far they can be trusted."""

from __future__ import annotations

from tracekit.model import NONE, Phase, Timeline


def trust_warnings(timeline: Timeline) -> list[str]:
    """Warnings for what is missing from the device's record of the runs.

    Set-up is left out: a script's set-up is over before the device's record begins.
    """
    manifest, copies = timeline.run.manifest, timeline.copies
    if manifest.activity == "none":
        return []
    seen = copies[(copies["copy_id"] != NONE) & (copies["phase"] != Phase.SETUP)]
    missing = int((seen["device_start_ns"] == NONE).sum())
    if not missing:
        return []
    cause = (
        f"the {manifest.activity} record is cut short"
        if manifest.complete
        else "the device's record was still open when the profile ended"
    )
    return [f"{missing:,} of {len(seen):,} copies have no device record, so that their host times stand in: {cause}"]
