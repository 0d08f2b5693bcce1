"""What a notebook shows: a page isolated from the notebook's own, and charts as plotly's objects."""

from __future__ import annotations

import html
from typing import Any

from tracekit.render.figures.palette import Theme, resolved

HEIGHT_PX = 900


def isolated(page: str) -> str:
    """An inline frame that holds the page as an origin of its own: it can neither read nor change the notebook."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts allow-downloads" title="tracekit report"'
        f' style="width: 100%; height: {HEIGHT_PX}px; border: 0"></iframe>'
    )


def plotly_figure(figure: dict[str, Any], theme: Theme) -> Any:
    """The chart with the theme's colours, as a ``plotly.graph_objects.Figure``, which checks every name in it."""
    # Slow to import, and only those who draw need it.
    import plotly.graph_objects as go

    return go.Figure(resolved(figure, theme))
