"""Splits what follows ``tracekit profile``: its own options, what to profile, and a script's own arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from tracekit.errors import UsageError
from tracekit.workload.synthetic import PREFIX, SYNTHETIC


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of the help text with its options.

    `pipeline_only` options say how tracekit calls the pipeline, so they mean nothing to a script, which calls it
    itself; those of a section with a `mode` need that offload mode.
    """

    title: str
    pipeline_only: bool = False
    mode: str = ""


class SectionOption(click.Option):
    """An option that knows its section."""

    def __init__(self, *args: Any, section: Section, **kwargs: Any) -> None:
        super().__init__(*args, **{"show_default": True, **kwargs})
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help text has its options under their sections' headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their sections' headings."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            title = option.section.title if isinstance(option, SectionOption) else "Other"
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record:
                rows.setdefault(title, []).append(record)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


class TargetCommand(SectionedCommand):
    """A command whose options may stand around a pipeline's name, but only before a script's.

    What follows a script's name is the script's, `--help` and ``--`` included.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the target first, then read the options around it, or before it alone."""
        ctx.allow_interspersed_args = False
        values, _, _ = self.make_parser(ctx).parse_args(list(args))
        target = values.get("target")
        is_script = bool(values.get("as_module")) or (isinstance(target, str) and names_script(target))
        ctx.allow_interspersed_args = not is_script
        return super().parse_args(ctx, args)


def names_script(target: str) -> bool:
    """Whether the target is a Python file; one that does not exist is still no pipeline."""
    return target.endswith(".py") and not Path(target).is_dir()


def given_options(ctx: click.Context) -> Iterable[SectionOption]:
    """The options that were typed."""
    for option in ctx.command.params:
        typed = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if typed and isinstance(option, SectionOption):
            yield option


def check_mode(ctx: click.Context, mode: str) -> None:
    """Refuse options of another offload mode than the one that was asked for.

    Raises:
        UsageError: an option belongs to another mode.
    """
    for given in given_options(ctx):
        if given.section.mode not in ("", mode):
            raise UsageError(f"{given.opts[0]} belongs to --offload {given.section.mode}, not to {mode}")


def complete_target(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shell completion of a target: the built-in pipelines, and files."""
    names = [f"{PREFIX}{name}" for name in SYNTHETIC]
    items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*items, CompletionItem(incomplete, type="file")]
