"""``tracekit profile``: record a pipeline or a script, and end with the verdict and the paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tracekit.cli import catalogue
from tracekit.cli.output import console, next_command, note, with_size
from tracekit.cli.profile_options import profile_options
from tracekit.cli.scripts import is_scripts_own, report_end
from tracekit.cli.targets import TargetCommand, check_mode, complete_target, given_options, names_script
from tracekit.errors import UsageError
from tracekit.units import GIB

if TYPE_CHECKING:
    from tracekit.api import CaptureOptions, Run
    from tracekit.model import Conditions
    from tracekit.offload.options import OffloadOptions
    from tracekit.workload.call import CallOptions


class ProfileCommand(TargetCommand):
    """The command, whose help text ends with what there is to choose from."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the offload modes and the built-in pipelines."""
        for title, rows in (("Modes", catalogue.mode_rows()), ("Built-in pipelines", catalogue.pipeline_rows())):
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command("profile", cls=ProfileCommand)
@click.argument("target", shell_complete=complete_target)
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@profile_options
@click.pass_context
def command(ctx: click.Context, /, target: str, arguments: tuple[str, ...], **options: Any) -> int:
    """Profile TARGET: a pipeline, or your own script.

    \b
    A pipeline: a hub id, a diffusers folder or a built-in one (below).
      tracekit profile synthetic:flux-tiny --offload sequential --steps 4
    A script, with whatever offloading it sets up itself. What follows its
    name is the script's alone, so tracekit's options come before it.
      tracekit profile --output runs/mine script.py --steps 3
      tracekit profile -m package.module ARGS

    Progress and the summary go to stderr; stdout is the script's, or --json's.
    """  # noqa: D301 - \b is click's mark for lines that it must not rewrap
    if options["as_module"] or names_script(target):
        return _profile_script(ctx, target, arguments, options)
    return _profile_pipeline(ctx, target, arguments, options)


def _profile_pipeline(ctx: click.Context, name: str, arguments: tuple[str, ...], options: dict[str, Any]) -> int:
    if arguments:
        raise UsageError(f"unexpected argument {arguments[0]!r} beside the pipeline {name}")
    check_mode(ctx, options["mode"])
    from tracekit import api
    from tracekit.render.json import render_json
    from tracekit.render.progress import live_progress

    recorded: list[Run] = []
    try:
        with live_progress(console(stderr=True)) as on_progress:
            api.profile_pipeline(
                name,
                offload=_offload_options(options),
                call=_call_options(options),
                dtype=options["dtype"],
                runs=options["runs"],
                capture=_capture_options(options),
                conditions=_conditions(options),
                on_progress=on_progress,
                on_recorded=recorded.append,
            )
    finally:
        # Also when the pipeline failed: what was captured until then is kept.
        for run in recorded:
            if options["as_json"]:
                click.echo(render_json(run.summary()))
            _show_end(run, report=not options["no_report"])
    return 0


def _profile_script(ctx: click.Context, target: str, arguments: tuple[str, ...], options: dict[str, Any]) -> int:
    for given in given_options(ctx):
        if given.section.pipeline_only:
            raise UsageError(f"{given.opts[0]} is for pipelines: {target} calls its own (its options come after it)")
    if options["as_json"]:
        raise UsageError("stdout is the script's own: leave --json out, and use tracekit show RUN --json afterwards")
    from tracekit import api
    from tracekit.render.progress import live_progress

    ended: BaseException | None = None
    recorded: list[Run] = []
    with live_progress(console(stderr=True)) as on_progress:
        try:
            api.profile_script(
                target,
                arguments,
                as_module=options["as_module"],
                capture=_capture_options(options),
                on_progress=on_progress,
                on_recorded=recorded.append,
            )
        except BaseException as error:
            if not is_scripts_own(error):
                raise
            ended = error
    code = report_end(ended) if ended else 0
    for run in recorded:
        _show_end(run, report=not options["no_report"])
    return code


def _show_end(run: Run, *, report: bool) -> None:
    """Close with the summary, where everything is, and the next command."""
    from tracekit.render.terminal import render_summary

    render_summary(run.summary(), console(stderr=True))
    note(f"\nRun    {run.path}")
    if run.trace_path:
        note(f"Trace  {with_size(run.trace_path)}")
    if run.trace_adjustments:
        note(f"       {run.trace_adjustments}")
    if report:
        note(f"Report {with_size(run.write_report())}")
    next_command("tracekit", "open", run.path, "--report")


def _capture_options(options: dict[str, Any]) -> CaptureOptions:
    from tracekit.api import CaptureOptions

    return CaptureOptions(
        output=options["output"],
        force=options["force"],
        device=options["device"],
        vram_bytes=options["vram"],
        link_gbps=options["link_gbps"],
        python_frames=options["python_frames"],
        activity=options["activity"],
        nvml=not options["no_nvml"],
        calibration=not options["no_calibration"],
        trace=not options["no_trace"],
    )


def _conditions(options: dict[str, Any]) -> Conditions:
    from tracekit.model import Allocator, Conditions, Kernels, PageCache

    return Conditions(
        page_cache=PageCache(options["page_cache"]),
        allocator=Allocator(options["allocator"]),
        kernels=Kernels(options["kernels"]),
    )


def _offload_options(options: dict[str, Any]) -> OffloadOptions:
    from tracekit.offload.options import OffloadOptions

    resident_gib, resident_list = options["resident_gib"], options["resident_list"]
    return OffloadOptions(
        mode=options["mode"],
        resident_bytes=None if resident_gib is None else round(resident_gib * GIB),
        resident_order=options["resident_order"],
        resident_parameters=None if resident_list is None else frozenset(resident_list.read_text().split()),
        host_memory=options["host_memory"],
        group_level=options["group_level"],
        blocks_per_group=options["blocks_per_group"],
        stream=options["stream"],
        record_stream=options["record_stream"],
        low_cpu_mem=options["low_cpu_mem"],
        disk_path=options["offload_to_disk"],
    )


def _call_options(options: dict[str, Any]) -> CallOptions:
    from tracekit.workload.call import CallOptions

    return CallOptions(
        steps=options["steps"],
        height=options["height"],
        width=options["width"],
        prompt=options["prompt"],
        seed=options["seed"],
        extra=dict(options["call"]),
    )
