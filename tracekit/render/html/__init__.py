"""The report as one HTML file that needs nothing else: no network, no server, no other file."""

from tracekit.render.html.page import render_report

__all__ = ["render_report"]
