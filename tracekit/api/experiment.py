"""An experiment's folder for Python users; `tracekit.experiment` runs one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracekit.model.experiment import Experiment


def load_experiment(path: str | Path) -> Experiment:
    """Open an experiment's folder, finished or not; `tracekit.experiment.summarize_experiment` judges it.

    Raises:
        RunFolderError: it is none, it is damaged, or another version of tracekit made it.
    """
    from tracekit.runfolder.experiments import read_experiment

    return read_experiment(Path(path))
