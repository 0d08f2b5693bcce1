"""What a change takes beyond time saved: memory on either side, set-up, and from which step on it pays."""

from __future__ import annotations

from tracekit.analysis.prediction.planner import ahead_from
from tracekit.model.plan import Prediction
from tracekit.units import format_duration, format_memory


def cost_of(own: Prediction, other: Prediction, noise_ns: int) -> str:
    """The cost of `other` in place of `own` in words; set-up times closer than the noise are the same."""
    parts = []
    device = other.device_bytes.value - own.device_bytes.value
    if device > 0:
        parts.append(f"{format_memory(device)} more device memory")
    if other.locked_bytes:
        parts.append(f"{format_memory(other.locked_bytes)} of page-locked host memory")
    setup = other.setup_ns.value - own.setup_ns.value
    if setup > noise_ns:
        parts.append(f"{format_duration(setup)} more set-up")
    saved = own.warm_step_ns.value - other.warm_step_ns.value
    steps = ahead_from(other.total_ns(1).value - own.total_ns(1).value, saved)
    if steps is not None and steps > 1:
        parts.append(f"it pays from {steps:,} steps on")
    return ", ".join(parts) or "nothing that this run shows"
