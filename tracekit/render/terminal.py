"""The summary of a run for a terminal: verdict, warnings, what to change, steps, causes, modules."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from tracekit.model import ModuleRow, Paging, PagingEvidence, StepRow, Summary
from tracekit.render.blocks import bullets, print_blocks, table, text_lines
from tracekit.render.causetable import cause_table
from tracekit.render.findings import advice_blocks
from tracekit.render.memoryholders import memory_holder_lines
from tracekit.render.plaintext import shorten_left, visible
from tracekit.units import DurationUnit, format_bytes, format_duration, format_memory, gb_per_s_text, known_bytes

MAX_STEPS = 8
MAX_MODULES = 3
MAX_FQN = 32

_COLUMNS = ("step", "wall", "copying", "compute", "rest", "copies", "to device", "GB/s")
_MODULE_COLUMNS = ("onloads", "size", "exposed", "first", "warm")


def render_summary(summary: Summary, console: Console) -> None:
    """Print the summary within 80 columns; `console` decides where to, and whether in colour.

    First what a reader can act on, then what it rests on.
    """
    blocks: list[RenderableType] = [_head(summary), Text(visible(summary.verdict), style="bold")]
    if summary.out_of_memory is not None:
        blocks.append(text_lines(memory_holder_lines(summary.out_of_memory)))
    blocks += [bullets("warning", summary.warnings, "yellow")] if summary.warnings else []
    blocks += advice_blocks(summary.findings, summary.next_step)
    if summary.steps:
        blocks.append(table(_COLUMNS, step_rows(summary.steps), _step_note(summary)))
    paging = paging_line(summary.paging) if summary.paging is not None else ""
    causes = cause_table(summary)
    if causes is not None:
        columns, rows, note = causes
        blocks.append(table(columns, rows, "\n".join(filter(None, [note, paging]))))
    elif paging:
        blocks.append(text_lines([paging]))
    if summary.modules:
        blocks.append(_module_table(summary.modules))
    print_blocks(blocks, console)


def step_rows(steps: Sequence[StepRow]) -> list[list[str]]:
    """The rows of the table of steps, in one unit; the middle of a long run as one row that says so.

    wall = copying + compute + rest, also as displayed.
    """
    unit = _unit(steps)
    several_runs = len({step.run_index for step in steps}) > 1
    rows = [_step_row(step, unit, several_runs) for step in steps]
    if len(rows) > MAX_STEPS:
        shown = MAX_STEPS // 2
        left_out = [f"({len(rows) - 2 * shown} more)"] + [""] * (len(_COLUMNS) - 1)
        rows = [*rows[:shown], left_out, *rows[-shown:]]
    return rows


def _unit(steps: Sequence[StepRow]) -> DurationUnit:
    return DurationUnit.fitting(max(step.wall_ns for step in steps))


def _step_row(step: StepRow, unit: DurationUnit, several_runs: bool) -> list[str]:
    wall, (copying, compute, rest) = unit.split([step.exposed_copy_ns, step.compute_ns, step.rest_ns])
    name = f"run {step.run_index + 1}, {step.step_index + 1}" if several_runs else str(step.step_index + 1)
    rate = gb_per_s_text(step.h2d_bytes, step.h2d_ns)
    return [name, wall, copying, compute, rest, f"{step.copy_count:,}", format_bytes(step.h2d_bytes), rate]


def paging_line(paging: PagingEvidence) -> str:
    """The verdict on paging, with its figures; without any, why there is none."""
    if paging.paging is Paging.UNKNOWN or not paging.mapped_bytes:
        return f"Paging {paging.paging}: {visible(paging.reason)}"
    size = format_bytes(paging.mapped_bytes)
    read = f"{known_bytes(paging.first_read_bytes)} of {size} read at first onloads"
    later = f"{known_bytes(paging.later_read_bytes)} later"
    verdict = "next to none" if paging.is_trace else paging.paging
    return f"Paging {verdict}: {read}, {later}"


def module_rows(modules: Sequence[ModuleRow]) -> list[list[str]]:
    """The modules with the most copy time that no kernel hid."""
    top = sorted(modules, key=lambda module: (-module.exposed_ns, module.fqn))[:MAX_MODULES]
    return [
        [
            shorten_left(visible(module.fqn), MAX_FQN),
            f"{module.onloads:,}",
            format_bytes(module.weight_bytes),
            format_duration(module.exposed_ns),
            format_duration(module.first_ns),
            "-" if module.warm_ns is None else format_duration(module.warm_ns),
        ]
        for module in top
    ]


def _step_note(summary: Summary) -> str:
    known = summary.activity in ("cupti", "emulated")
    what = "copying: no kernel ran beside it" if known else "kernels were not recorded: the rest holds the computing"
    return f"in {_unit(summary.steps).name}; {what}"


def _module_table(modules: Sequence[ModuleRow]) -> RenderableType:
    rows = module_rows(modules)
    name = f"module ({len(rows)} of {len(modules):,})" if len(rows) < len(modules) else "module"
    lacking = any(row[-1] == "-" for row in rows)
    return table((name, *_MODULE_COLUMNS), rows, "-: onloaded once, so there is no warm sample" if lacking else "")


def _head(summary: Summary) -> Text:
    device = "emulated device" if summary.emulated else summary.device_name
    what = summary.pipeline_class or summary.workload
    head = Text(f"{visible(what)}, {visible(summary.mode)}, {visible(device)}", style="bold cyan")
    facts = [format_duration(summary.total_ns)]
    if summary.setup_ns:
        facts.append(f"set-up {format_duration(summary.setup_ns)}")
    facts.append(f"{format_bytes(summary.h2d_bytes)} to the device, {format_bytes(summary.d2h_bytes)} back")
    if summary.peak_allocated_bytes is not None:
        facts.append(f"peak {format_memory(summary.peak_allocated_bytes)}")
    return head.append("\n" + ", ".join(facts), style="not bold dim default")
