"""``tracekit doctor``: what this machine can and cannot measure, and the remedies."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from tracekit.cli.output import next_command, note
from tracekit.errors import ExitCode

if TYPE_CHECKING:
    from tracekit.model.machinecheck import MachineCheck

WIDTH = 80
_INDENT = " " * 23


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, and nothing else.")
def command(as_json: bool) -> int:
    """Say what can and cannot be measured on this machine, one finding a line, with what to do about it.

    It ends with 0 whatever it finds, and with 4 only where nothing could be
    profiled at all: no GPU, and no emulated device.
    """
    from tracekit.device.doctor import can_profile, examine

    findings = examine()
    code = ExitCode.OK if can_profile(findings) else ExitCode.MISSING
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
        return code
    click.echo("\n".join(finding_lines(findings)))
    note("")
    if code:
        note("Nothing can be profiled here: see cuda and emulated above.")
    else:
        next_command("tracekit", "profile", "synthetic:flux-tiny", "--offload", "sequential")
    return code


def finding_lines(findings: Iterable[MachineCheck]) -> Iterator[str]:
    """Each finding within 80 columns: level, check, what was found, and its remedy below it."""
    from tracekit.render.plaintext import visible

    for finding in findings:
        head = f"{finding.level:<8} {finding.check:<13} "
        yield from textwrap.wrap(visible(finding.found), WIDTH, initial_indent=head, subsequent_indent=_INDENT)
        if finding.remedy:
            yield from textwrap.wrap(
                visible(finding.remedy), WIDTH, initial_indent=f"{_INDENT}> ", subsequent_indent=f"{_INDENT}  "
            )
