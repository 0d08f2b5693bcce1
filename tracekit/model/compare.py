"""What two runs, or two sets of repeats, have in common and what differs. Built by analysis.compare."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """What can be said of a difference. Never better than the samples: see `Difference.low`."""

    LESS = "less"  # the whole interval lies below 0
    MORE = "more"  # the whole interval lies above 0
    NOISE = "within noise"  # 0 is in the interval
    UNKNOWN = "one sample"  # fewer than two samples on a side: there is no interval


class SampleUnit(StrEnum):
    """What the samples of a comparison are."""

    STEPS = "warm steps"
    RUNS = "runs"


class Difference(msgspec.Struct, kw_only=True, frozen=True):
    """One quantity on both sides: means over the samples, and `other` less `base`. ns, or bytes where so named.

    `low` and `high` bound the difference of the means with 95% confidence (Welch's t interval; samples that are like
    their neighbours count for fewer); None where a side has fewer than two samples. Exchanging the sides turns every
    sign.
    """

    name: str
    base: int
    other: int
    difference: int
    low: int | None
    high: int | None
    base_samples: int
    other_samples: int
    outcome: Outcome

    @property
    def relative(self) -> float | None:
        """The difference as a share of the base; None where that is 0."""
        return self.difference / self.base if self.base else None


class Setting(msgspec.Struct, kw_only=True, frozen=True):
    """A part of the configuration that is not the same on both sides; empty where a side has none."""

    name: str
    base: str
    other: str


class Side(msgspec.Struct, kw_only=True, frozen=True):
    """The run folders on one side, and what they ran."""

    paths: list[str]
    what: str


class ModuleChanges(msgspec.Struct, kw_only=True, frozen=True):
    """Copy time of each module's weights in a warm step, compared module by module.

    `changed` are the modules whose difference is beyond noise, by its size: so many comparisons give some large ones by
    chance, so they are chosen with at most 5% false ones expected among them (Benjamini and Hochberg).
    """

    compared: int
    less: int
    more: int
    changed: list[Difference]


class Comparison(msgspec.Struct, kw_only=True, frozen=True):
    """Two sides, their settings and their times.

    `unit` says what the samples of warm figures are. `times` are the warm step, step 1, set-up and the total, as far as
    both sides have them; `warm_causes` and `first_causes` add up to the first two. `memory` and `traffic` are bytes.
    `fail_above` is the bound asked for, as a share, and `regressions` the times that are above it and beyond noise.
    """

    base: Side
    other: Side
    unit: SampleUnit
    verdict: str
    configuration: list[Setting]
    times: list[Difference]
    warm_causes: list[Difference]
    first_causes: list[Difference]
    modules: ModuleChanges
    memory: list[Difference]
    traffic: list[Difference]
    warnings: list[str]
    fail_above: float | None = None
    regressions: list[str] = []
