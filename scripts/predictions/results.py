"""What was predicted for each arm, beside what its runs say."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from predictions.arms import ARMS, SOURCE, Arm, arm_folder, configured, failure_path, is_complete
from tracekit.analysis.drift import machine_drift
from tracekit.analysis.hostspeed import host_slowdown
from tracekit.analysis.prediction.predictor import Predictor
from tracekit.api import Run, load
from tracekit.experiment.verification import FIRST_STEP, WARM_STEP, compare, host_against
from tracekit.model import Cause
from tracekit.model.plan import Estimate, VerifiedRow
from tracekit.model.typical import step_causes, typical_step


class ArmResult(msgspec.Struct, kw_only=True):
    """What was found of an arm in its runs, each a list of rows; `failed` says why there are none."""

    name: str
    aside: bool
    runs: list[list[VerifiedRow]] = []
    failed: str = ""
    from_all: list[list[VerifiedRow]] = []
    """The runs once more, beside what was predicted from each of the sequential runs; empty where the arm is one."""
    slower: list[dict[str, float]] = []
    """What `machine_drift` says of each process against the source run's."""
    hosts: list[dict[str, float]] = []
    """How many times as long the same Python took in each run's step 1 and warm steps as in the source run's."""
    made_of: list[dict[Cause, int]] = []
    """What the causes of each run's typical warm step took, ns."""
    for_hosts: list[list[VerifiedRow]] = []
    """These once more, beside what was predicted for a host so much slower."""

    @property
    def rows(self) -> dict[str, VerifiedRow]:
        """By quantity, the runs' mean."""
        return combined(self.runs)

    @property
    def for_host_rows(self) -> dict[str, VerifiedRow]:
        """Step 1 and warm step, beside what was predicted for each run's own host; empty where that was not timed."""
        return combined(self.for_hosts)

    @property
    def from_all_rows(self) -> dict[str, VerifiedRow]:
        """The same, the mean of what was predicted from all sequential runs."""
        return combined(self.from_all)


def combined(runs: Sequence[Sequence[VerifiedRow]]) -> dict[str, VerifiedRow]:
    """By quantity, the mean of what was measured beside that of what was predicted."""
    found = {}
    for rows in zip(*runs, strict=True):
        value, measured = (
            statistics.fmean(of) for of in ([row.predicted.value for row in rows], [row.measured for row in rows])
        )
        low, high = min(row.predicted.low for row in rows), max(row.predicted.high for row in rows)
        found[rows[0].quantity] = VerifiedRow(
            configuration=rows[0].configuration,
            quantity=rows[0].quantity,
            predicted=Estimate(round(value), low, high),
            measured=round(measured),
            error=value / measured - 1,
        )
    return found


class Reference:
    """A sequential run that arms are predicted from."""

    def __init__(self, folder: Path) -> None:
        self.run = load(folder)
        self._predictor = Predictor(self.run.timeline)

    def predicted(self, arm: Arm, run: Run, host: float = 1.0) -> list[VerifiedRow]:
        """What this run says of an arm on a host `host` times as slow, beside what the arm's run says."""
        configuration = configured(arm, self._predictor)
        return compare(self._predictor.predict(configuration, host=host), run.facts)

    def hosts(self, run: Run) -> dict[str, float]:
        """How many times as long the same Python took in another run's step 1 and warm steps; empty: not timed."""
        found = {
            FIRST_STEP: host_slowdown(run.facts.steps[:1], self.run.facts.steps[:1]),
            WARM_STEP: host_against(self._predictor, self.run.facts, run.facts),
        }
        return {quantity: host for quantity, host in found.items() if host is not None}

    def predicted_for(self, arm: Arm, run: Run, hosts: Mapping[str, float]) -> list[VerifiedRow]:
        """What this run says of an arm's step 1 and warm step on hosts so many times as slow, beside its run's."""
        rows = [(quantity, row) for quantity, host in hosts.items() for row in self.predicted(arm, run, host)]
        return [row for quantity, row in rows if row.quantity == quantity]


def typical_causes(run: Run) -> dict[Cause, int]:
    """What the causes of a run's typical warm step took, ns."""
    step = typical_step(run.facts)
    return {cause: row.duration_ns for cause, row in step_causes(run.facts, step).items()} if step else {}


def references(folder: Path, blocks: int) -> list[Reference]:
    """The source run, and the arms that are its configuration once more."""
    again = itertools.product(range(blocks), (arm for arm in ARMS if arm.configuration is SOURCE))
    folders = (arm_folder(folder, arm, block) for block, arm in again)
    return [Reference(path) for path in (folder / "source", *filter(is_complete, folders))]


def campaign(folder: Path, blocks: int) -> tuple[list[Reference], list[ArmResult]]:
    """A folder's sequential runs, its source run first, and what was found of each arm that was run."""
    known = references(folder, blocks)
    results = [finished(folder, blocks, arm, known) for arm in ARMS]
    return known, [result for result in results if result is not None]


def finished(folder: Path, blocks: int, arm: Arm, known: Sequence[Reference]) -> ArmResult | None:
    """What was predicted for an arm and what its run folders say; None: it was not run yet."""
    folders = [arm_folder(folder, arm, block) for block in range(blocks)]
    result = ArmResult(name=arm.name, aside=arm.aside)
    if (failure := failure_path(folders[0])).exists():
        result.failed = failure.read_text()
        return result
    source = known[0]
    for run in map(load, filter(is_complete, folders)):
        result.runs.append(source.predicted(arm, run))
        result.made_of.append(typical_causes(run))
        result.slower.append(machine_drift(source.run.facts.ceilings, run.facts.ceilings))
        if hosts := source.hosts(run):
            result.hosts.append(hosts)
            result.for_hosts.append(source.predicted_for(arm, run, hosts))
        if arm.configuration is not SOURCE:
            result.from_all += [reference.predicted(arm, run) for reference in known]
    return result if result.runs else None
