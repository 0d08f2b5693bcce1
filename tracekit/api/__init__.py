"""What Python users and every command call: profile something, load a run folder, look at it."""

from tracekit.api.comparison import compare
from tracekit.api.context import profile
from tracekit.api.experiment import load_experiment
from tracekit.api.importing import import_trace
from tracekit.api.options import CaptureOptions
from tracekit.api.pipeline import profile_pipeline
from tracekit.api.run import Run, load
from tracekit.api.script import profile_script

__all__ = [
    "CaptureOptions",
    "Run",
    "compare",
    "import_trace",
    "load",
    "load_experiment",
    "profile",
    "profile_pipeline",
    "profile_script",
]
