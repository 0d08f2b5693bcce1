"""What set-up took apart from moving weights: loading, and attaching a mode's hooks."""

from __future__ import annotations

from dataclasses import dataclass

from tracekit.analysis.intervals import Coverage
from tracekit.model import Phase, SpanKind, Timeline

_LOADING = ("load", "from_pretrained", "remove former hooks")

_FAMILY = {"sequential": "accelerate", "partial": "accelerate", "model": "model", "group": "group", "resident": "none"}
"""Modes that attach their hooks in the same way."""


@dataclass(frozen=True)
class SetupTimes:
    """Set-up of the profiled run, in ns: loading, and the host's work of attaching its own mode's hooks."""

    mode: str
    load_ns: int
    attach_ns: int
    pins_at_attach: bool
    """Whether attaching page-locked the weights, too (group with a stream): it then says nothing of other modes."""

    @classmethod
    def of(cls, timeline: Timeline) -> SetupTimes:
        """The set-up of a timeline's first run."""
        spans = timeline.spans
        rows = spans[(spans["kind"] == SpanKind.SETUP) & (spans["phase"] == Phase.SETUP)]
        rows = rows[~rows["parent_id"].isin(rows["span_id"])]
        own = timeline.spans[timeline.spans["kind"] == SpanKind.TRACEKIT]
        copies = timeline.copies
        away = Coverage.of(copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()) | Coverage.of(
            own["start_ns"].to_numpy(), own["end_ns"].to_numpy()
        )
        start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
        took = end - start - away.within(start, end)
        load = attach = 0
        for name, span_ns in zip(rows["name"].astype(str), took.tolist(), strict=True):
            if any(word in name for word in _LOADING):
                load += span_ns
            elif name.startswith("attach") or ".enable_" in name:
                attach += span_ns
        offload = timeline.run.manifest.offload
        pins = bool(offload.options.get("stream")) and not offload.options.get("low_cpu_mem")
        return cls(offload.mode, load, attach, pins)

    def ns(self, mode: str) -> int:
        """Loading and attaching for a mode, without what the mode moves or page-locks."""
        return self.load_ns + (0 if mode == "resident" or self.pins_at_attach else self.attach_ns)

    def unknown_attach(self, mode: str) -> bool:
        """Whether this run did not attach that mode's hooks."""
        return mode != "resident" and _FAMILY.get(mode) != _FAMILY.get(self.mode)
