"""The loopback server behind ``tracekit open``: runs' traces and report, and the Perfetto UI to see them in."""

from tracekit.viewer.server import Viewer
from tracekit.viewer.site import Site, report_site, trace_site

__all__ = ["Site", "Viewer", "report_site", "trace_site"]
