"""A comparison as one HTML file in the report's style: tables alone, readable with scripts off."""

from __future__ import annotations

from tracekit.model.compare import Comparison
from tracekit.render.compare import (
    amount_rows,
    cause_rows,
    judgement,
    module_rows,
    module_text,
    setting_rows,
    time_rows,
)
from tracekit.render.html.blocks import Table
from tracekit.render.html.page import render_static
from tracekit.render.plaintext import visible

MAX_MODULES = 1_000
_TIMES = ("what", "A", "B", "B - A")
_INTERVAL = ("95% interval", "B is")


def render_comparison_page(comparison: Comparison) -> str:
    """The whole page."""
    return render_static(
        "compare.html.j2",
        verdict=visible(comparison.verdict),
        judgement=visible(judgement(comparison)),
        sides=[
            {"name": name, "what": visible(side.what), "paths": [visible(path) for path in side.paths]}
            for name, side in (("A", comparison.base), ("B", comparison.other))
        ],
        sections=_sections(comparison),
        notes=[visible(text) for text in comparison.warnings],
    )


def _sections(comparison: Comparison) -> list[tuple[str, Table]]:
    note = f"Means and Welch's intervals of {comparison.unit}. A dash: fewer than two samples on a side."
    modules = comparison.modules
    sections = [
        (
            "Times",
            Table("Each time on both sides", (*_TIMES, "of A", *_INTERVAL), time_rows(comparison.times), note=note),
        )
    ]
    for title, causes in (("A warm step", comparison.warm_causes), ("Step 1", comparison.first_causes)):
        if causes:
            table = Table(f"{title}, by cause", (*_TIMES, *_INTERVAL), cause_rows(causes))
            sections.append((f"{title}: where the difference is", table))
    rows = module_rows(modules.changed, MAX_MODULES, width=None)
    sections += [
        ("Modules", Table("Modules by difference", ("module", *_TIMES[1:], "B is"), rows, note=module_text(modules))),
        ("Memory and traffic", Table("Bytes on both sides", _TIMES, amount_rows(comparison))),
    ]
    settings = setting_rows(comparison.configuration, width=None)
    unchanged = "Both sides have the same configuration."
    table = Table("What is not the same", ("setting", "A", "B"), settings, texts=3, note="" if settings else unchanged)
    return [*sections, ("Configuration", table)]
