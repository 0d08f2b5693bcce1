"""A comparison for a terminal: verdict, times, causes, modules, memory, configuration, caveats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from tracekit.model.compare import Comparison, Difference, ModuleChanges, Outcome, Setting, Side
from tracekit.render.blocks import bullets, print_blocks, table
from tracekit.render.plaintext import shorten_left, shorten_right, visible
from tracekit.units import format_bytes, format_duration, format_memory

MAX_MODULES = 8
MAX_FQN = 34
MAX_VALUE = 24
MAX_PATH = 40

WORDS = {Outcome.MORE: "slower", Outcome.LESS: "faster", Outcome.NOISE: "noise", Outcome.UNKNOWN: "-"}
"""What an outcome means for a time."""


def render_comparison(comparison: Comparison, console: Console) -> None:
    """Print the comparison within 80 columns; `console` decides where to, and whether in colour."""
    samples = f"means; 95% intervals (Welch) of {comparison.unit}; -: fewer than two samples"
    blocks: list[RenderableType] = [
        _head(comparison),
        Text(visible(comparison.verdict), style="bold"),
        table(("", "A", "B", "B - A", "of A", "95% interval", ""), time_rows(comparison.times), samples),
    ]
    for title, causes in (("warm step", comparison.warm_causes), ("step 1", comparison.first_causes)):
        if causes:
            blocks.append(table((title, "A", "B", "B - A", "95% interval", ""), cause_rows(causes)))
    blocks.append(_modules(comparison))
    amounts = amount_rows(comparison)
    if amounts:
        blocks.append(table(("", "A", "B", "B - A"), amounts))
    if comparison.configuration:
        blocks.append(table(("setting", "A", "B"), setting_rows(comparison.configuration)))
    blocks += [bullets("note", comparison.warnings, "yellow")] if comparison.warnings else []
    if comparison.fail_above is not None:
        blocks.append(Text(judgement(comparison), style="bold red" if comparison.regressions else "green"))
    print_blocks(blocks, console)


def time_rows(rows: Sequence[Difference]) -> list[list[str]]:
    """A row a time, with the difference as a share of A's."""
    return [
        [*_amounts(row, format_duration), _share(row.relative), interval_text(row), WORDS[row.outcome]] for row in rows
    ]


def cause_rows(rows: Sequence[Difference]) -> list[list[str]]:
    """A row a cause."""
    return [[*_amounts(row, format_duration), interval_text(row), WORDS[row.outcome]] for row in rows]


def module_rows(rows: Sequence[Difference], count: int = MAX_MODULES, width: int | None = MAX_FQN) -> list[list[str]]:
    """The modules that changed most, names cut to `width` where there is one."""
    return [
        [
            shorten_left(visible(row.name), width or len(row.name)),
            *_amounts(row, format_duration)[1:],
            WORDS[row.outcome],
        ]
        for row in rows[:count]
    ]


def module_text(modules: ModuleChanges) -> str:
    """How many modules were compared, and how many changed."""
    if not modules.changed:
        return f"No module's copies differ beyond noise ({modules.compared:,} compared)."
    counts = f"{modules.more:,} slower and {modules.less:,} faster of {modules.compared:,}"
    return f"Copy time in a warm step; beyond noise {counts}"


def amount_rows(comparison: Comparison) -> list[list[str]]:
    """Memory in binary units, traffic in decimal ones."""
    rows = [_amounts(row, format_memory) for row in comparison.memory]
    return rows + [_amounts(row, format_bytes) for row in comparison.traffic]


def setting_rows(settings: Sequence[Setting], width: int | None = MAX_VALUE) -> list[list[str]]:
    """What is not the same in the configuration, cut to `width`; a dash where a side has no such setting."""
    return [[_short(text, width) for text in (row.name, row.base, row.other)] for row in settings]


def judgement(comparison: Comparison) -> str:
    """What the bound says; empty where none was asked for."""
    if comparison.fail_above is None:
        return ""
    bound = f"{100 * comparison.fail_above:g}%"
    if comparison.regressions:
        return f"Regression above {bound} and beyond noise: {'; '.join(comparison.regressions)}"
    return f"No regression above {bound} and beyond noise."


def interval_text(row: Difference) -> str:
    """The interval of a difference, or a dash."""
    if row.low is None or row.high is None:
        return "-"
    return f"{format_duration(row.low)} to {format_duration(row.high)}"


def _amounts(row: Difference, text: Callable[[float], str]) -> list[str]:
    sign = "+" if row.difference > 0 else ""
    return [visible(row.name), text(row.base), text(row.other), sign + text(row.difference)]


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:+.1%}"


def _short(text: str, width: int | None) -> str:
    text = visible(text) or "-"
    return text if width is None else shorten_right(text, width)


def _head(comparison: Comparison) -> Text:
    head = Text()
    for name, side in (("A", comparison.base), ("B", comparison.other)):
        head.append(f"{name}  {visible(side.what)}", style="bold cyan")
        head.append(f"\n   {_paths(side)}\n", style="dim")
    head.rstrip()
    return head


def _paths(side: Side) -> str:
    first = shorten_left(visible(side.paths[0]), MAX_PATH)
    return first if len(side.paths) == 1 else f"{first} and {len(side.paths) - 1} more"


def _modules(comparison: Comparison) -> RenderableType:
    modules = comparison.modules
    if not modules.changed:
        return Text(module_text(modules), style="dim")
    return table(("module", "A", "B", "B - A", ""), module_rows(modules.changed), module_text(modules))
