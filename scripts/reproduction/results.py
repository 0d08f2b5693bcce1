"""The parts' measured results, as far as there are any, as the page asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracekit.analysis.armruns import arm_row, used_summaries
from tracekit.analysis.hypotheses import summarize_experiment
from tracekit.model.experiment import ArmRow, ArmRun, Experiment, ExperimentSummary, Outcome
from tracekit.model.summary import Summary
from tracekit.runfolder.experiments import is_experiment, read_experiment


@dataclass(frozen=True)
class Results:
    """The experiments by part; a part that has not begun is absent."""

    parts: Mapping[str, Experiment]

    @classmethod
    def read(cls, folder: Path, names: tuple[str, ...]) -> Results:
        """What is in ``folder/<part>/experiment.json``; nothing else of a part's folder is needed."""
        return cls({name: read_experiment(folder / name) for name in names if is_experiment(folder / name)})

    def arms(self, part: str) -> list[ArmRow]:
        """The rows of a part's arms, in the order of the plan."""
        experiment = self.parts.get(part)
        return [] if experiment is None else [arm_row(experiment, arm) for arm in experiment.plan.arms]

    def arm(self, part: str, name: str) -> ArmRow | None:
        """One arm's row, if a run of it can be used."""
        return next((row for row in self.arms(part) if row.arm == name and row.used), None)

    def copies_a_step(self, part: str, name: str) -> int | None:
        """Weight copies in the last step of an arm's last run that can be used."""
        experiment = self.parts.get(part)
        used = used_summaries(experiment, name) if experiment is not None else {}
        steps = [summary.steps[-1] for _, summary in sorted(used.items()) if summary.steps]
        return steps[-1].copy_count if steps else None

    def experiment(self, part: str) -> ExperimentSummary | None:
        """A part's hypotheses."""
        found = self.parts.get(part)
        return None if found is None else summarize_experiment(found)

    def summaries(self) -> list[Summary]:
        """Every run that can be used."""
        return [run.summary for run in self.runs() if run.outcome == Outcome.DONE and run.summary is not None]

    def runs(self) -> list[ArmRun]:
        """Every turn of every part."""
        return [run for experiment in self.parts.values() for run in experiment.runs]
