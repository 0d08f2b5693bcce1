"""What a report shows beyond the summary: matrices, series and checks, as plain data. Built by analysis.report."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tracekit.model.finding import Basis
from tracekit.model.manifest import Manifest
from tracekit.model.plan import OffloadPlan
from tracekit.model.summary import Summary

MAX_POINTS = 2_000
"""Points a series may have: SVG draws more slowly than people read."""
MAX_HEAT_ROWS = 600
MAX_HEAT_COLUMNS = 60


class CheckState(StrEnum):
    """How a check of the figures went."""

    PASSED = "passed"
    NOTED = "note"  # the figures hold, and a reader should know this
    FAILED = "failed"
    UNKNOWN = "not known"  # this run has no record that would tell


class CopyState(StrEnum):
    """What a copy to the device found on its host side."""

    PAGED = "paged"  # bytes came from disk, or some pages were not in memory
    FIRST = "first"  # its parameter's first onload in the process, nothing paged
    WARM = "warm"


class Part(msgspec.Struct, kw_only=True, frozen=True):
    """One exclusive share of a step's wall time: a Cause's name, or one of `COPYING`, `COMPUTING`, `NEITHER`."""

    name: str
    duration_ns: int


COPYING, COMPUTING, NEITHER = "exposed copies", "compute", "neither copy nor kernel"
"""The parts of a step in a run whose causes are not known."""


class StepParts(msgspec.Struct, kw_only=True):
    """One step's wall time in parts that add up to it. `start_ns`, `end_ns`: where the timeline shows it."""

    label: str
    run_index: int
    step_index: int
    start_ns: int
    end_ns: int
    wall_ns: int
    parts: list[Part]


class Matrix(msgspec.Struct, kw_only=True):
    """Rows times columns of little-endian float32, row by row; NaN where there is no value."""

    rows: int
    columns: int
    values: bytes


class HeatMap(msgspec.Struct, kw_only=True):
    """The denoiser's modules in the order in which they run, against steps.

    A row is one module, or `modules_a_row` neighbours where there are too many; a column is one step, or the mean of
    `steps_a_column`. Times are ns, `rate` is bytes per ns, `resident` the share of the weights' pages that were in the
    page cache just before their copy. A matrix without any value is None.
    """

    modules: list[str]
    steps: list[str]
    modules_a_row: int
    steps_a_column: int
    copy: Matrix | None
    rate: Matrix | None
    resident: Matrix | None
    compute: Matrix | None


class ResidencyWindow(msgspec.Struct, kw_only=True):
    """What was on the device in a stretch of the timeline, divided into slices of one length.

    `share` has a row for each of the view's modules and a column for each slice: the share of the module's bytes that
    was there, averaged over the slice, 0 to 1. `weight_bytes` is the most that all of them held at once in each slice.
    `marks_ns` are the ends of steps in it.
    """

    key: str
    title: str
    start_ns: int
    end_ns: int
    share: Matrix
    weight_bytes: list[int]
    marks_ns: list[int]


class Residency(msgspec.Struct, kw_only=True):
    """Which modules' weights were on the device when. `finding` says it in a sentence.

    A row is a block, or `blocks_a_row` neighbours where there are too many, in the order in which they run; of each its
    bytes, and how long a byte that came stayed on average in the first window. `limit_bytes` is the cap where `is_cap`,
    else the device's total (None: not known).
    """

    finding: str
    modules: list[str]
    sizes_bytes: list[int]
    stay_ns: list[int]
    blocks_a_row: int
    windows: list[ResidencyWindow]
    limit_bytes: int | None
    is_cap: bool


class CopyGroup(msgspec.Struct, kw_only=True):
    """Weight copies to the device of about one size, in one state, from one kind of host memory.

    `size_bytes` is their median size; times are quartiles, ns. `points` are what a scatter shows of them: size, time,
    and how many copies it stands for.
    """

    state: CopyState
    host_memory: str
    size_bytes: int
    copies: int
    total_bytes: int
    median_ns: int
    low_ns: int
    high_ns: int
    points: list[tuple[int, int, int]]


class MemorySeries(msgspec.Struct, kw_only=True):
    """A quantity of device memory over time: the largest and the smallest sample of each stretch from a `t_ns` on."""

    name: str
    t_ns: list[int]
    high_bytes: list[int]
    low_bytes: list[int]


class MemoryTrack(msgspec.Struct, kw_only=True):
    """Device memory over time. `limit_bytes` is the cap where `is_cap`, else the device's total (None: not known).

    `peaks` holds each phase's and step 1's largest sample by series name.
    """

    series: list[MemorySeries]
    limit_bytes: int | None
    is_cap: bool
    peak_bytes: int
    peaks: list[tuple[str, dict[str, int]]]


class TotalLine(msgspec.Struct, kw_only=True):
    """What a configuration takes for any number of steps: set-up, encode and decode, step 1, then warm steps.

    `warm_low_ns` and `warm_high_ns` are the fastest and slowest warm step, `once_low_ns` and `once_high_ns` the bounds
    of all that comes before warm steps. `measured_steps` is how many were run (of a prediction none); what lies beyond
    them is carried on at the warm rate.
    """

    name: str
    setup_ns: int
    around_ns: int
    first_step_ns: int
    warm_step_ns: int
    warm_low_ns: int
    warm_high_ns: int
    once_low_ns: int
    once_high_ns: int
    measured_steps: int
    basis: Basis

    def total_ns(self, steps: int) -> int:
        """The total of that many steps, one or more."""
        return self.setup_ns + self.around_ns + self.first_step_ns + (steps - 1) * self.warm_step_ns

    def bounds_ns(self, steps: int) -> tuple[int, int]:
        """Between what the total of that many steps lies."""
        return self.once_low_ns + (steps - 1) * self.warm_low_ns, self.once_high_ns + (steps - 1) * self.warm_high_ns


class Check(msgspec.Struct, kw_only=True):
    """One reason to trust the figures, or not to."""

    title: str
    state: CheckState
    detail: str


class Moment(msgspec.Struct, kw_only=True, frozen=True):
    """A stretch of the timeline."""

    start_ns: int
    end_ns: int


class Titles(msgspec.Struct, kw_only=True):
    """Each section's finding in a sentence."""

    verdict: str
    cold_warm: str
    steps: str
    heat: str
    bandwidth: str
    memory: str
    modules: str
    trust: str


class RunReport(msgspec.Struct, kw_only=True):
    """One run in a report. `name` tells it from the report's other runs.

    `first` and `warm` are the first run's first step and the one that stands for its warm ones (see
    tracekit.model.typical). `moments` has each module's slowest onload by FQN. `plan` is what other
    configurations are predicted to take (None: nothing can be predicted). `not_worth` are sentences.
    """

    name: str
    path: str
    summary: Summary
    manifest: Manifest
    titles: Titles
    steps: list[StepParts]
    first: StepParts | None
    warm: StepParts | None
    heat: HeatMap | None
    residency: Residency | None
    copies: list[CopyGroup]
    memory: MemoryTrack | None
    total: TotalLine | None
    plan: OffloadPlan | None
    checks: list[Check]
    not_worth: list[str]
    moments: dict[str, Moment]


class Report(msgspec.Struct, kw_only=True):
    """One run, or several side by side.

    `totals` are the runs' lines and, of one run, what its plan predicts of others. Findings on the runs together:
    `break_even` says from how many steps which is ahead, `ranges` how long their steps
    take, `compared` whose warm step is the shortest.
    """

    title: str
    runs: list[RunReport]
    totals: list[TotalLine]
    break_even: str
    ranges: str
    compared: str
