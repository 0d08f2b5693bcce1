"""tracekit: profile and trace weight offloading in diffusion pipelines."""

from __future__ import annotations

__version__ = "0.1.0"
