"""What differs in how two sides were run, and what that means for comparing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tracekit.model import Manifest
from tracekit.model.compare import Setting

_LEFT_OUT = {
    # Of a run's moment and its outcome, not of how it was run.
    "schema_version", "complete", "incomplete_reason", "created", "command", "clock", "process_id", "overhead_ns",
    "counts", "warnings",
}  # fmt: skip
_READ_BACK = {"conditions.resident_share", "conditions.mapped_share", "conditions.reason", "conditions.established"}
_SHAPE = ("call.height", "call.width", "call.prompt", "call.num_frames", "call.max_sequence_length", "call.batch_size")


def changed_settings(base: Sequence[Manifest], other: Sequence[Manifest]) -> list[Setting]:
    """The settings that are not the same on both sides, in the manifest's order."""
    sides = [_values(base), _values(other)]
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    rows = [Setting(name=name, base=sides[0].get(name, ""), other=sides[1].get(name, "")) for name in names]
    return [row for row in rows if row.base != row.other]


def comparability(base: Sequence[Manifest], other: Sequence[Manifest]) -> list[str]:
    """Why the two sides, or the repeats of one, are not quite alike; a sentence each."""
    changed = {setting.name for setting in changed_settings(base, other)}
    found = [_unlike("A", base), _unlike("B", other)]
    if "pipeline_class" in changed or any(name.startswith("components") for name in changed):
        found.append("the pipelines are not the same: the differences are not those of a setting alone")
    if changed & set(_SHAPE):
        found.append("the calls are not the same work (see the configuration): times are compared as they are")
    if "call.steps" in changed or "call.num_inference_steps" in changed:
        found.append("the numbers of steps are not the same: compare warm steps, not totals")
    if changed & {"device.kind", "device.name", "machine.cpu"}:
        found.append("the machines are not the same: the differences are not those of a setting alone")
    for name, side in (("A", base), ("B", other)):
        count = sum(not manifest.complete for manifest in side)
        found += [f"{count} of {len(side)} runs of {name} are incomplete"] if count else []
    return [sentence for sentence in found if sentence]


def _unlike(name: str, side: Sequence[Manifest]) -> str:
    unlike = [setting for setting, values in _distinct(side).items() if len(values) > 1]
    return f"the runs of {name} differ among themselves in {', '.join(unlike)}" if unlike else ""


def _values(side: Sequence[Manifest]) -> dict[str, str]:
    return {name: " | ".join(values) for name, values in _distinct(side).items() if any(values)}


def _distinct(side: Sequence[Manifest]) -> dict[str, list[str]]:
    """Each setting's values on one side, in order of their first appearance; none there is an empty text."""
    flat = [dict(_flatten("", msgspec.to_builtins(manifest))) for manifest in side]
    names = dict.fromkeys(name for values in flat for name in values)
    return {name: list(dict.fromkeys(values.get(name, "") for values in flat)) for name in names}


def _flatten(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        parts = ((f"{prefix}.{key}" if prefix else str(key), part) for key, part in value.items())
        return [row for name, part in parts if name not in _LEFT_OUT | _READ_BACK for row in _flatten(name, part)]
    return [(prefix, "" if value is None else str(value))]
