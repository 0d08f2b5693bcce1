"""What set-up took apart from moving weights: loading, and attaching a mode's hooks."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracekit.analysis.activity import Activity
from tracekit.analysis.intervals import Coverage
from tracekit.model import Phase, SpanKind, Timeline
from tracekit.model.plan import Configuration
from tracekit.model.text import says

_LOADING = re.compile(r"load|remove former hooks|\w+\.(from_pretrained|remove_all_hooks)")
_ATTACHING = re.compile(r"attach .*|\w+\.enable_\w+")

_FAMILY = {"sequential": "accelerate", "partial": "accelerate", "model": "model", "group": "group", "resident": "none"}
"""Modes that attach their hooks in the same way."""


@dataclass(frozen=True)
class SetupTimes:
    """Set-up of the profiled run, in ns: loading, and the host's work of attaching its own mode's hooks.

    Garbage collections while loading are part of it, in any mode: what the mode does comes later. `collecting_ns` is
    what they took while attaching. Hooks at every module are so many objects that they bring a full one on, which
    other modes are spared; `hooks_everywhere` is whether this run's mode has them.
    """

    mode: str
    load_ns: int
    attach_ns: int
    collecting_ns: int
    hooks_everywhere: bool
    pins_at_attach: bool
    """Whether attaching page-locked the weights, too (group with a stream): it then says nothing of other modes."""

    @classmethod
    def of(cls, timeline: Timeline) -> SetupTimes:
        """The set-up of a timeline's first run."""
        spans = timeline.spans
        rows = spans[(spans["kind"] == SpanKind.SETUP) & (spans["phase"] == Phase.SETUP)]
        rows = rows[~rows["parent_id"].isin(rows["span_id"])]
        own, copies = Coverage.of_word(spans, "kind", SpanKind.TRACEKIT), timeline.copies
        away = Coverage.of(copies["start_ns"].to_numpy(), copies["end_ns"].to_numpy()) | own
        start, end = rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy()
        took = end - start - away.within(start, end)
        working = end - start - (away | timeline.once(Activity.of).collections).within(start, end)
        loading, attaching = (_is_named(rows, pattern) for pattern in (_LOADING, _ATTACHING))
        offload = timeline.run.manifest.offload
        pins = bool(offload.options.get("stream")) and not offload.options.get("low_cpu_mem")
        return cls(
            mode=offload.mode,
            load_ns=int(took[loading].sum()),
            attach_ns=int(working[attaching].sum()),
            collecting_ns=int((took - working)[attaching].sum()),
            hooks_everywhere=_hooks_everywhere(offload.mode, offload.options.get("level")),
            pins_at_attach=pins,
        )

    def ns(self, configuration: Configuration) -> int:
        """Loading and attaching for a configuration, without what it moves or page-locks."""
        mode = configuration.mode
        attach = 0 if mode == "resident" or self.pins_at_attach else self.attach_ns
        collects = _hooks_everywhere(mode, configuration.group_level) == self.hooks_everywhere
        return self.load_ns + attach + (self.collecting_ns if collects else 0)

    def unknown_attach(self, mode: str) -> bool:
        """Whether this run did not attach that mode's hooks."""
        return mode != "resident" and _FAMILY.get(mode) != _FAMILY.get(self.mode)


def _hooks_everywhere(mode: str, group_level: object) -> bool:
    """Whether a mode has a hook at every module that has weights."""
    return mode in ("sequential", "partial") or (mode == "group" and group_level == "leaf_level")


def _is_named(rows: pd.DataFrame, pattern: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    return says(rows["name"], lambda name: pattern.fullmatch(name) is not None)
