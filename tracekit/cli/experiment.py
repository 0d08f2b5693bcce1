"""``tracekit experiment``: change one thing at a time, each arm in a process of its own, and judge the hypotheses."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracekit.cli.experiment_options import experiment_options, profile_words
from tracekit.cli.output import console, next_command, note, with_size
from tracekit.cli.targets import SectionedCommand, check_mode, complete_target
from tracekit.errors import ExitCode
from tracekit.experiment.paging import ARMS, CONTRASTS, EXPERIMENT, paging_plan

if TYPE_CHECKING:
    from tracekit.model.experiment import Plan


class PagingCommand(SectionedCommand):
    """The command, whose help text ends with its arms and what they test."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the arms and the hypotheses."""
        hypotheses = [(f"{pair.slow} - {pair.fast}", f"{pair.hypothesis}: {pair.claim}") for pair in CONTRASTS]
        for title, rows in (("Arms", [(arm.name, arm.doc) for arm in ARMS]), ("Hypotheses", hypotheses)):
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group("experiment", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Change one thing at a time, and say what causes a slow first step."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command(EXPERIMENT, cls=PagingCommand)
@click.argument("pipeline", shell_complete=complete_target)
@experiment_options
@click.pass_context
def paging(ctx: click.Context, /, pipeline: str, **options: Any) -> int:
    """Find out why the first step of PIPELINE is slow: paging, mapping, staging, the allocator or warm-up.

    Arms differ from one another in one factor. Each runs in a process of its own, forked from one that has imported the
    libraries and touched no device and no weight. A block has every arm once, in random order, so that differences are
    taken within blocks. Interrupted, it can be resumed.
    """
    check_mode(ctx, options["mode"])
    # Before any arm: a device that is not there is one line, not a failure of every arm.
    from tracekit.device.choice import resolve_device

    plan = paging_plan(
        pipeline,
        profile_words(ctx),
        mode=options["mode"],
        emulated=resolve_device(options["device"]).kind == "emulated",
        arms=options["arms"],
        repeats=options["repeats"],
        seed=options["seed"],
    )
    from tracekit.runfolder import default_run_path

    folder = options["output"] or default_run_path(Path(), pipeline, EXPERIMENT, datetime.now())
    try:
        return _run(plan, folder, options)
    except KeyboardInterrupt:
        words = ["tracekit", "experiment", EXPERIMENT, pipeline, *plan.options, *_own_words(options)]
        note("\nInterrupted. The finished arms are kept; to go on:")
        note(shlex.join([*words, "--output", str(folder), "--resume"]))
        return ExitCode.INTERRUPTED


def _run(plan: Plan, folder: Path, options: dict[str, Any]) -> int:
    from tracekit.api.run import REPORT_NAME
    from tracekit.experiment import run_experiment, summarize_experiment
    from tracekit.model.experiment import Outcome
    from tracekit.render.armprogress import arm_progress
    from tracekit.render.experiment import render_experiment
    from tracekit.render.files import write_text
    from tracekit.render.html import render_experiment_page
    from tracekit.render.json import render_json

    for name, reason in plan.left_out.items():
        note(f"Left out: {name}: {reason}")
    with arm_progress(console(stderr=True)) as on_turn:
        experiment = run_experiment(plan, folder, resume=options["resume"], on_turn=on_turn)
    summary = summarize_experiment(experiment)
    if options["as_json"]:
        click.echo(render_json(summary))
    render_experiment(summary, console(stderr=True))
    report = write_text(render_experiment_page(summary), folder / REPORT_NAME)
    note(f"\nExperiment  {folder}")
    note(f"Report      {with_size(report)}")
    next_command("tracekit", "show", folder)
    return ExitCode.OK if any(run.outcome == Outcome.DONE for run in experiment.runs) else ExitCode.INTERNAL


def _own_words(options: dict[str, Any]) -> list[str]:
    arms = ["--arms", ",".join(options["arms"])] if options["arms"] else []
    return [*arms, "--repeats", str(options["repeats"]), "--seed", str(options["seed"])]
