"""Assemble the page: templates, style sheet, scripts, charts and data in one text, under a policy that allows no more.

The policy names each script and style sheet by its hash, so that a text from a run cannot become one. Everything that
varies comes from the report: the same report gives the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from tracekit.model.report import Report
from tracekit.render.figures.palette import PATTERNS, SCALES, css_variables
from tracekit.render.html.view import page_data, page_view
from tracekit.render.plaintext import visible
from tracekit.units import unbroken

_PACKAGE = files("tracekit.render.html")
_NO_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
"""The hash of nothing: plotly.js makes an empty style sheet and fills it by calls, which the policy allows."""

_HATCH_DEGREES = {"/": (135,), "\\": (45,), "-": (0,), "|": (90,), "x": (45, 135), "+": (0, 90)}
"""The directions of the lines that plotly's patterns consist of."""


def render_report(report: Report) -> str:
    """The page of one run, or of several beside each other."""
    return render_charted("report.html.j2", page_data(report), page_view(report))


def render_charted(template: str, data: dict[str, Any], view: dict[str, Any]) -> str:
    """A page with charts: `data` is what its script draws (``figures``, ``runs``, ``totals``), `view` what it says."""
    styles, library = _styles(), _library()
    theme, script = _asset("theme.js"), _asset("report.js")
    page = _environment().get_template(template)
    return page.render(
        policy=_policy([theme, script, gzip.decompress(library).decode()], [styles]),
        styles=Markup(styles),
        theme_script=Markup(theme),
        script=Markup(script),
        library=base64.b64encode(library).decode(),
        data=_packed(data | {"scales": {name: list(pair) for name, pair in SCALES.items()}}),
        visible=visible,
        **view,
    )


def render_static(template: str, **view: Any) -> str:
    """A page of another template in the report's style: without charts, and so without any script but the theme's."""
    styles, theme = _styles(), _asset("theme.js")
    page = _environment().get_template(template)
    return page.render(
        policy=_policy([theme], [styles]), styles=Markup(styles), theme_script=Markup(theme), visible=visible, **view
    )


def _styles() -> str:
    patterns = {name: Markup(_hatch(shape, size)) for name, (shape, size) in PATTERNS.items()}
    template = _environment().get_template("report.css.j2")
    return template.render(light=_css("light"), dark=_css("dark"), patterns=patterns)


def _hatch(shape: str, size: int) -> str:
    """The style sheet's image of one of plotly's patterns."""
    if shape == ".":
        return f"radial-gradient(var(--hatch) 1.1px,transparent 1.5px);background-size:{size}px {size}px"
    lines = "repeating-linear-gradient({}deg,var(--hatch) 0 1.5px,transparent 1.5px {}px)"
    return ",".join(lines.format(degrees, size) for degrees in _HATCH_DEGREES.get(shape, ()))


@cache
def _environment() -> jinja2.Environment:
    """Every text that templates show keeps its numbers and their units on one line; ``exact`` leaves one as it is.

    What is there to be copied must be ``exact``: a shell and Python do not take a no-break space for a space.
    """
    environment = jinja2.Environment(
        finalize=lambda value: unbroken(value) if type(value) is str else value,
        loader=jinja2.PackageLoader("tracekit.render.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["exact"] = escape
    return environment


def _asset(name: str) -> str:
    return (_PACKAGE / "assets" / name).read_text(encoding="utf-8")


@cache
def _library() -> bytes:
    """plotly.js with the charts that figures use, as scripts/build_plotlyjs.py left it: compressed."""
    return (_PACKAGE / "vendor" / "plotly.min.js.gz").read_bytes()


def _css(theme: Any) -> Markup:
    return Markup("".join(f"--{name}:{value};" for name, value in css_variables(theme).items()))


def _packed(data: dict[str, Any]) -> str:
    """JSON, compressed, in base64: letters that mean nothing in HTML. No time stamp, so always the same."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _policy(scripts: list[str], styles: list[str]) -> Markup:
    """Nothing may be fetched from anywhere; style attributes place bars and labels, and can do no more than that."""
    rules = {
        "default-src": ["'none'"],
        "script-src": [_hash(text) for text in scripts],
        "style-src-elem": [*(_hash(text) for text in styles), _NO_STYLE],
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    return Markup("; ".join(f"{name} {' '.join(sources)}" for name, sources in rules.items()))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
