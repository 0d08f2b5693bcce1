"""The options of ``tracekit experiment``: those of ``tracekit profile`` that every arm gets, and its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tracekit.cli.profile import command as profile
from tracekit.cli.targets import Section, SectionOption
from tracekit.experiment.paging import MODES

Function = TypeVar("Function", bound=Callable[..., Any])

EXPERIMENT = Section("Experiment")

_PASSED = (
    "steps", "height", "width", "prompt", "call", "dtype", "mode", "resident_gib", "resident_order", "group_level",
    "blocks_per_group", "device", "vram", "link_gbps", "activity", "no_nvml", "no_calibration",
)  # fmt: skip
"""What every arm gets; the others of ``tracekit profile`` are what the arms differ in, or this command's own."""
_DEFAULTS: Mapping[str, Any] = {"steps": 4}


def arms_list(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


_OWN = (
    SectionOption(
        ["--arms"], section=EXPERIMENT, type=arms_list, metavar="NAMES", default="", show_default=False,
        help="Only these arms, separated by commas. Without it: all that can run here.",
    ),
    SectionOption(
        ["--repeats"], section=EXPERIMENT, type=click.IntRange(min=1), metavar="N", default=3,
        help="Blocks, each with every arm once.",
    ),
    SectionOption(
        ["--seed"], section=EXPERIMENT, type=int, metavar="N", default=0, help="Seed of the order within each block."
    ),
    SectionOption(
        ["--output"], section=EXPERIMENT, type=click.Path(path_type=Path), metavar="DIR",
        help="The experiment's folder. Without it: a new one in runs/.",
    ),
    SectionOption(
        ["--resume"], section=EXPERIMENT, is_flag=True,
        help="Keep the finished arms in DIR, and run the others. More --repeats than before add blocks.",
    ),
    SectionOption(
        ["--json", "as_json"], section=EXPERIMENT, is_flag=True, help="Print the summary as JSON on stdout."
    ),
)  # fmt: skip


def _passed_options() -> list[SectionOption]:
    """Copies of profile's options, so that defaults can differ."""
    options = []
    for option in profile.params:
        if isinstance(option, SectionOption) and option.name in _PASSED:
            own = copy.copy(option)
            own.default = _DEFAULTS.get(option.name, option.default)
            if option.name == "mode":
                own.type, own.help = click.Choice(MODES), f"One of {', '.join(MODES)}."
            options.append(own)
    return options


def experiment_options(function: Function) -> Function:
    """Give a command's function its options, in the order of the help text."""
    for option in reversed([*_passed_options(), *_OWN]):
        # What click.option does, for options that exist already.
        function.__dict__.setdefault("__click_params__", []).append(option)
    return function


def profile_words(ctx: click.Context) -> list[str]:
    """The options of ``tracekit profile`` that every arm gets, as words: those typed, and the mode and steps always."""
    words: list[str] = []
    for option in ctx.command.params:
        name = option.name or ""
        typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in _PASSED and (typed or name in ("mode", *_DEFAULTS)):
            words += _words(option.opts[0], name, ctx.params[name])
    return words


def _words(flag: str, name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag] if value else []
    if name == "call":
        return [word for key, text in value for word in (flag, f"{key}={text}")]
    return [flag, f"{value}B" if name == "vram" else str(value)]
