"""What all charts have in common: the frame around the data, bars with patterns, typed arrays."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tracekit.model.report import Matrix
from tracekit.render.figures.palette import PATTERNS, role
from tracekit.render.plaintext import visible

Figure = dict[str, Any]
Values = npt.NDArray[np.float32]
_PLACE = {"l": 62, "r": 16, "t": 12, "b": 48}


def figure(data: list[dict[str, Any]], x: str, y: str, height: int = 320, **layout: Any) -> Figure:
    """A figure with titled axes, transparent so that the page's card is its ground."""
    base = {
        "height": height,
        "margin": _PLACE,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "@muted", "size": 12},
        "hoverlabel": {"bgcolor": "@card", "bordercolor": "@line", "font": {"color": "@ink", "size": 12}},
        "showlegend": False,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"color": "@ink"}},
        "xaxis": axis(x),
        "yaxis": axis(y),
    }
    return {"data": data, "layout": merged(base, layout)}


def axis(title: str, **settings: Any) -> dict[str, Any]:
    """An axis that names its quantity and unit."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 12, "color": "@muted"}},
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zerolinecolor": "@line",
        "tickfont": {"color": "@muted"},
        **settings,
    }


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, dictionary by dictionary."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def fill(part: str) -> dict[str, Any]:
    """The marker of a bar that stands for this part: its colour, and its pattern over it."""
    name = role(part)
    marker: dict[str, Any] = {"color": f"@{name}", "line": {"color": "@card", "width": 1}}
    shape, size = PATTERNS[name]
    if shape:
        # Without the overlay plotly paints a pattern's ground transparent.
        marker["pattern"] = {
            "shape": shape,
            "fillmode": "overlay",
            "fgcolor": "@card",
            "fgopacity": 0.4,
            "size": size,
            "solidity": 0.25,
        }
    return marker


def matrix_values(matrix: Matrix) -> Values:
    """A matrix' values as rows of columns."""
    return np.frombuffer(matrix.values, "<f4").reshape(matrix.rows, matrix.columns)


def typed(values: Values) -> dict[str, Any]:
    """A matrix as plotly takes it: its bytes in base64, which both plotly.js and the Python package read.

    With 10 bits of mantissa, a thousandth: what nobody sees does not compress.
    """
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    kept = ((bits + 0x1000) & np.uint32(0xFFFFE000)).view("<f4")
    short = np.where(np.isnan(values), np.float32("nan"), kept).astype("<f4")
    rows, columns = values.shape
    return {"dtype": "f4", "bdata": base64.b64encode(short.tobytes()).decode(), "shape": f"{rows}, {columns}"}


def step_end(x: float) -> dict[str, Any]:
    """A dotted line over the whole chart where a step ends."""
    return {
        "type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x,
        "line": {"color": "@line", "width": 1, "dash": "dot"},
    }  # fmt: skip


def limit_line(y: float, axis: str = "y") -> dict[str, Any]:
    """A line across at a limit."""
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": axis, "y0": y, "y1": y,
        "line": {"color": "@bound", "width": 1.5, "dash": "longdash"},
    }  # fmt: skip


def label(text: str, y: float, axis: str = "y") -> dict[str, Any]:
    """A text at the right, standing on `y`."""
    return {
        "text": text, "xref": "paper", "x": 1, "xanchor": "right", "yref": axis, "y": y, "yanchor": "bottom",
        "showarrow": False, "font": {"color": "@ink", "size": 12},
    }  # fmt: skip


def plain(text: str) -> str:
    """A stranger's text for a label: plotly reads a few HTML tags in labels, so what could begin one is escaped."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain_all(texts: Sequence[str]) -> list[str]:
    """`plain` of each."""
    return [plain(text) for text in texts]
