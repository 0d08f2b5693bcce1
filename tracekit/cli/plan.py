"""``tracekit plan``: what every other way of offloading would take, which is best, and the proof by running it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from tracekit.cli import params
from tracekit.cli.output import console, next_command, note
from tracekit.errors import UsageError
from tracekit.units import size_text

DEFAULT_STEPS = (4, 10, 28, 50)


@click.command("plan")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--vram", type=params.size, metavar="SIZE", help="Device memory to plan for. Without it: the run's.")
@click.option("--ram", type=params.size, metavar="SIZE", help="Host memory to plan for. Without it: the machine's.")
@click.option(
    "--steps",
    type=params.step_numbers,
    metavar="N,N",
    default=",".join(map(str, DEFAULT_STEPS)),
    show_default=True,
    help="Steps to compare.",
)
@click.option("--verify", type=click.IntRange(min=1), metavar="N", help="Run the N best and print the errors.")
@click.option("--code", "code_of", metavar="NAME", help="Print the code of one configuration, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON, and nothing else.")
def command(
    run: Path,
    vram: int | None,
    ram: int | None,
    steps: tuple[int, ...],
    verify: int | None,
    code_of: str | None,
    as_json: bool,
) -> None:
    """Predict from RUN, a run folder, what other ways of offloading take; choose one; verify it.

    The plan is kept in the run folder, and reports show it with all that was verified of what it predicts.
    """
    from tracekit import api
    from tracekit.api.plan import plan, save_plan
    from tracekit.experiment.verification import is_verifiable, verify_plan
    from tracekit.render.json import render_json
    from tracekit.render.plan import render_plan
    from tracekit.runfolder.plans import read_plan

    if any(count < 0 for count in steps):
        raise UsageError("--steps are numbers of steps, such as 4,10,28: none is below zero")
    opened = api.load(run)
    made = plan(opened, vram_bytes=vram, ram_bytes=ram, steps=steps)
    if code_of is not None:
        row = next((row for row in made.rows if row.configuration.name == code_of), None)
        if row is None:
            names = "; ".join(row.configuration.name for row in made.rows)
            raise UsageError(f"no configuration {code_of!r} in this plan: {names}")
        click.echo(row.code, nl=False)
        return
    earlier = read_plan(opened.path)
    if earlier is not None:
        made.keep_verified(earlier)
    save_plan(opened, made)
    if verify is not None:
        assert opened.predictor is not None  # there is a plan
        verify_plan(
            opened.predictor,
            opened.facts,
            made,
            verify,
            lambda name, done, of: note(f"Verifying {name} ({done + 1} of {of})"),
            keep=partial(save_plan, opened),
        )
    if as_json:
        click.echo(render_json(made))
        return
    render_plan(made, console(stderr=False))
    note("")
    if verify is None and made.best and is_verifiable(opened.manifest):
        next_command("tracekit", "plan", run, *_caps(vram, ram, steps), "--verify", "3")
    else:
        next_command("tracekit", "report", run)


def _caps(vram: int | None, ram: int | None, steps: tuple[int, ...]) -> list[str]:
    """What this plan was asked for, as words, where that is not the default."""
    words = [word for flag, size in (("--vram", vram), ("--ram", ram)) if size for word in (flag, size_text(size))]
    return words if steps == DEFAULT_STEPS else [*words, "--steps", ",".join(map(str, steps))]
