"""The ``tracekit`` command: finds the command that was asked for, and turns how it ended into an exit code."""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Sequence

import click

from tracekit import __version__
from tracekit.errors import ExitCode, TracekitError

COMMANDS = {
    "profile": "Profile a pipeline or your own script.",
    "experiment": "Change one thing at a time, and say what causes a slow first step.",
    "show": "Print the summary of a run.",
    "report": "Write the report of a run, or of several: one HTML file.",
    "open": "Open a run's timeline or report in the browser, offline.",
    "plan": "Predict other ways of offloading, choose one, verify it.",
    "compare": "Compare two runs, or two sets of repeats.",
    "export": "Write a run's timeline for Perfetto.",
    "import": "Make a run of a torch.profiler trace.",
    "list": "List the built-in pipelines and the offload modes.",
    "doctor": "Say what this machine can and cannot measure.",
    "checkpoint": "Save a built-in pipeline as an ordinary diffusers folder.",
}
"""Each command's line in ``tracekit --help``, in display order; the command itself is tracekit.cli.<name>.command."""
_MODULES = {"import": "importing"}  # a module cannot have a keyword's name


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for, so that ``--help`` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The commands' names, in display order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command; where there is no such, fail with the nearest one's name."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing or cmd_name.startswith("-"):
                return None
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {cmd_name!r}.{hint}", ctx)
        module = _MODULES.get(cmd_name, cmd_name)
        command: click.Command = importlib.import_module(f"tracekit.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands' lines without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tracekit")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Profile weight offloading in diffusion pipelines: every copy, every forward, cold against warm.

    \b
    Start with:
      tracekit profile synthetic:flux-tiny --offload sequential --steps 4
    """  # noqa: D301 - \b is click's mark for lines that it must not rewrap
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the process's exit code.

    A command returns its own code or None; everything that it raises becomes a line on stderr and a code here.
    """
    try:
        code = group.main(args=arguments, prog_name="tracekit", standalone_mode=False)
    except TracekitError as error:
        return _fail(str(error), error.exit_code)
    except click.ClickException as error:
        return _fail(_with_help(error), ExitCode.USAGE)
    except click.Abort:
        return _fail("interrupted", ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the one place where an unforeseen failure becomes an exit code
        traceback.print_exc()
        name = type(error).__name__
        return _fail(f"{name} ended it, see above; if the fault is tracekit's, please report that", ExitCode.INTERNAL)
    return code or ExitCode.OK


def _fail(message: str, code: int) -> int:
    click.echo(f"tracekit: {message}", err=True)
    return code


def _with_help(error: click.ClickException) -> str:
    """Click's message on one line, with the command whose help says more."""
    message = " ".join(error.format_message().split())
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} See {ctx.command_path} --help." if ctx else message
