"""The report as one HTML file that needs nothing else: no network, no server, no other file."""

from tracekit.render.html.experiment import render_experiment_page
from tracekit.render.html.page import render_report

__all__ = ["render_experiment_page", "render_report"]
