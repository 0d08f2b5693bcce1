"""Reads option values that click has no type for: sizes, ``key=value`` pairs, lists of steps."""

from __future__ import annotations

import math

import click

from tracekit.errors import UsageError
from tracekit.units import parse_bytes


def size(text: str) -> int:
    """Bytes of a size with its unit, such as ``12GB`` or ``12GiB``."""
    try:
        return parse_bytes(text)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


def key_value(text: str) -> tuple[str, str]:
    """A call argument's name and its value as typed; the value may hold further equals signs."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise click.BadParameter(f"{text!r} is not of the form key=value")
    return key, value


def step_numbers(text: str) -> tuple[int, ...]:
    """Step numbers separated by commas; negative ones count from the last step."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of step numbers, such as 0,1,-1") from error


def percentage(text: str) -> float:
    """The share that a percentage is, such as 0.05 for ``5%``; a plain number could be either, and is refused."""
    number, sign, rest = text.strip().partition("%")
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not sign or rest or not 0 <= share < math.inf:
        raise click.BadParameter(f"{text!r} is not a percentage, such as 5%")
    return share
