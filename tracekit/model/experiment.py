"""A causal experiment as plain data: what was planned, how each arm ended, and what the pairs of arms say.

An arm is one way to run the pipeline, always in a process of its own. A block has every arm once, so that arms are
compared with what ran near them in time; arms of one contrast differ in exactly one factor.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tracekit.model.causes import Cause
from tracekit.model.conditions import Allocator, Conditions, Kernels
from tracekit.model.summary import Summary

EXPERIMENT_VERSION = 2
"""Version of ``experiment.json``.

1: the first. 2: contrasts name their causes.
"""

EXPERIMENT_NAME = "experiment.json"
"""The file that makes a folder an experiment's."""


class Weights(StrEnum):
    """Where the weights' bytes are on the host when the first step begins: one factor, from slowest to fastest."""

    EVICTED = "evicted"  # in their mmapped files, on disk alone
    CACHED = "cached"  # in their mmapped files, in the page cache, not in the page tables
    MAPPED = "mapped"  # in their mmapped files, in the page cache and in the page tables
    ANONYMOUS = "anonymous"  # cloned into ordinary process memory
    PINNED = "pinned"  # cloned into page-locked memory


class Factors(msgspec.Struct, kw_only=True, frozen=True):
    """What an experiment changes."""

    weights: Weights = Weights.CACHED
    allocator: Allocator = Allocator.AS_IS
    kernels: Kernels = Kernels.AS_IS


class Arm(msgspec.Struct, kw_only=True, frozen=True):
    """One way to run the pipeline: `options` are its own of ``tracekit profile``.

    `factors` are None where no contrast uses the arm.
    """

    name: str
    doc: str
    options: list[str]
    factors: Factors | None = None


class Contrast(msgspec.Struct, kw_only=True, frozen=True):
    """Two arms that differ in one factor, and the hypothesis that they test: `slow` has the cause, `fast` has not.

    `causes` are those that say the same from within a run. A `check` is no cause of its own: it tests others together.
    """

    hypothesis: str
    claim: str
    slow: str
    fast: str
    causes: list[Cause]
    check: bool = False


class Turn(msgspec.Struct, kw_only=True, frozen=True):
    """One arm's place in the order in which an experiment runs. Blocks count from 0."""

    block: int
    arm: str


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """Everything that is decided before an experiment starts: equal plans measure the same.

    `options` are those of ``tracekit profile`` that every arm has. `left_out` has the reason why an arm cannot run
    here, by its name. `baseline` is the arm whose cold step is to be explained (empty: none is).
    """

    name: str
    workload: str
    options: list[str]
    arms: list[Arm]
    contrasts: list[Contrast] = []
    left_out: dict[str, str] = {}
    baseline: str = ""
    seed: int = 0
    turns: list[Turn]


class Outcome(StrEnum):
    """How an arm's turn ended."""

    PLANNED = "planned"  # not yet, or begun and not ended
    DONE = "done"
    VOID = "void"  # it ran, but the state it needed could not be established: never used
    FAILED = "failed"


class ArmRun(msgspec.Struct, kw_only=True):
    """One turn: how it ended, and the run's summary without its modules and parameters.

    `wall_ns` is the whole process, imports included. `reason` says in one line why it is void or failed.
    """

    block: int
    arm: str
    outcome: Outcome = Outcome.PLANNED
    reason: str = ""
    wall_ns: int = 0
    summary: Summary | None = None


class Experiment(msgspec.Struct, kw_only=True):
    """The content of ``experiment.json``: the plan, and a run for each of its turns, in their order."""

    schema_version: int = EXPERIMENT_VERSION
    tracekit_version: str
    created: str
    plan: Plan
    runs: list[ArmRun]


class TurnProgress(msgspec.Struct, kw_only=True, frozen=True):
    """What a display is told when a turn begins (PLANNED) and when it has ended.

    `number` counts turns from 1; `left_ns` is about how long the rest takes, this turn included when it begins (None:
    nothing has ended yet that would tell).
    """

    number: int
    turns: int
    block: int
    arm: str
    outcome: Outcome
    reason: str
    wall_ns: int
    left_ns: int | None


class Window(StrEnum):
    """The stretch of a run that an effect is about.

    What step 1 takes beyond a warm step is a difference within one process, which leaves out how fast the machine was
    just then, and what every step pays.
    """

    EXCESS = "step 1 - warm"
    FIRST = "step 1"
    WARM = "warm step"  # the median of the later steps
    RUN = "whole run"  # one call of the pipeline, without set-up


class Verdict(StrEnum):
    """What the pairs say of a hypothesis."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    CANNOT_TELL = "cannot tell here"


class Effect(msgspec.Struct, kw_only=True):
    """What a cause costs in one window: slow arm less fast arm, paired within blocks.

    `differences_ns` has one for each of `blocks`, signed. The interval is for the mean, 95%: Student's t below six
    pairs, bootstrap from six on (`method`), None below two pairs. `inside_ns` is what the contrast's causes within the
    runs differ by, mean over the blocks (None: no causes were recorded, or not for this window). `share` is the mean
    against the mean of this window in the baseline (of the slow arm where there is no baseline).
    """

    window: Window
    blocks: list[int]
    differences_ns: list[int]
    mean_ns: int | None
    low_ns: int | None
    high_ns: int | None
    method: str
    inside_ns: int | None
    share: float | None
    verdict: Verdict
    reason: str


class HypothesisRow(msgspec.Struct, kw_only=True):
    """A hypothesis and its effects, one for each window.

    The experiment asks why step 1 takes longer than later steps: the verdict on a hypothesis is that on the excess.
    What every step pays is a verdict of its own, that on the warm step.
    """

    hypothesis: str
    claim: str
    slow: str
    fast: str
    check: bool
    effects: list[Effect]
    verdict: Verdict
    reason: str

    def effect(self, window: Window) -> Effect:
        """The effect in one window."""
        return next(effect for effect in self.effects if effect.window == window)


class ArmRow(msgspec.Struct, kw_only=True):
    """One arm over its blocks. Times are medians over the `used` runs, ns; None without one.

    `first_ns_all` has step 1 of every used run, in the order of blocks. `state` is where the weights' pages were when
    the last used run began; `first_causes_ns` and `warm_causes_ns` are medians by cause (empty: not recorded).
    `reasons` are those of its void and failed runs, each once; `left_out` why it was not run at all.
    """

    arm: str
    doc: str
    used: int
    void: int
    failed: int
    planned: int
    setup_ns: int | None = None
    first_ns: int | None = None
    first_ns_all: list[int] = []
    warm_ns: int | None = None
    run_ns: int | None = None
    wall_ns: int | None = None
    first_read_bytes: int | None = None
    later_read_bytes: int | None = None
    peak_allocated_bytes: int | None = None
    state: Conditions | None = None
    first_causes_ns: dict[Cause, int] = {}
    warm_causes_ns: dict[Cause, int] = {}
    reasons: list[str] = []
    left_out: str = ""


class ExperimentSummary(msgspec.Struct, kw_only=True):
    """Everything that is shown of an experiment, in display order. Built by analysis.hypotheses.

    `verdict` is plain sentences for people. `excess_ns` is the mean excess of the baseline's step 1 over its warm step,
    `warm_ns` its mean warm step.
    """

    name: str
    workload: str
    pipeline_class: str
    mode: str
    device_name: str
    emulated: bool
    finished: int
    turns: int
    verdict: str
    baseline: str
    excess_ns: int | None
    warm_ns: int | None
    hypotheses: list[HypothesisRow]
    arms: list[ArmRow]
    warnings: list[str]
