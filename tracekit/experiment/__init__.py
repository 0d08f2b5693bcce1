"""Experiments: arms in fresh processes, paired in blocks, that change one thing at a time.

plan = paging_plan("synthetic:flux-tiny", ["--offload", "sequential", "--steps", "4"])
experiment = run_experiment(plan, Path("runs/paging"))
print(summarize_experiment(experiment).verdict)
"""

from tracekit.analysis.hypotheses import summarize_experiment
from tracekit.experiment.paging import paging_plan
from tracekit.experiment.runner import run_experiment

__all__ = ["paging_plan", "run_experiment", "summarize_experiment"]
