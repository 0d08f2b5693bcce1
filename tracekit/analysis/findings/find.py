"""Ask every rule about a run, and rank what they found by the time it saves."""

from __future__ import annotations

import msgspec

from tracekit.analysis.findings.case import Case
from tracekit.analysis.findings.nextstep import next_step
from tracekit.analysis.findings.rules import RULES
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.model import Summary, Timeline
from tracekit.model.finding import Finding

_BY_HOOKS = frozenset({"pageable-memory", "cache-clearing", "mapped-weights", "idle-device-memory"})
"""Changes to how accelerate's hooks bring each module's weights."""
_BY_GROUPS = frozenset({"exposed-copies", "group-copies-back", "pinning-on-the-fly"})
"""Changes to how diffusers brings groups of modules."""
_ONCE = frozenset({"weights-fit"})
"""Changes after which no step brings weights."""
_EITHER = (_BY_HOOKS, _BY_GROUPS, _ONCE)
_HOST_MEMORY = frozenset({"pageable-memory", "mapped-weights"})
"""Changes to what holds the weights: it can be one kind of memory alone."""


def advised(timeline: Timeline, summary: Summary, predictor: Predictor | None) -> Summary:
    """The summary with its findings and, where there are none, the most useful next step.

    `predictor` is None where nothing can be predicted from the run.
    """
    found = find_findings(timeline, summary, predictor) if predictor is not None else []
    step = None if found else next_step(summary, timeline.run.manifest)
    return msgspec.structs.replace(summary, findings=found, next_step=step)


def find_findings(
    timeline: Timeline,
    summary: Summary,
    predictor: Predictor,
    *,
    vram_bytes: int | None = None,
    ram_bytes: int | None = None,
) -> list[Finding]:
    """What to change in a run, the largest gain first, unknown gains last.

    `vram_bytes` and `ram_bytes` are what may be used; by default what the run might have used.
    """
    manifest = timeline.run.manifest
    vram, ram = vram_bytes or manifest.device.limit_bytes, ram_bytes or manifest.machine.ram_bytes
    case = Case(timeline, summary, predictor, vram, ram)
    found = [finding for rule in RULES if (finding := rule(case)) is not None]
    for finding in found:
        finding.instead_of = [other.slug for other in found if _excludes(finding.slug, other.slug)]
    return sorted(found, key=lambda finding: -finding.gains[-1].low_ns if finding.gains else 1)


def _excludes(one: str, other: str) -> bool:
    """Whether two findings are alternatives. What changes the weights themselves goes with every other."""
    if one != other and {one, other} <= _HOST_MEMORY:
        return True
    ways = [next((kind for kind in _EITHER if slug in kind), None) for slug in (one, other)]
    return None not in ways and ways[0] is not ways[1]
