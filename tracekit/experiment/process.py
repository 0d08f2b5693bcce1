"""Run one arm in a process of its own, and tell how it ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tracekit.experiment.template import GRACE_S, Template
from tracekit.model.experiment import ArmRun, Outcome
from tracekit.model.summary import Summary
from tracekit.runfolder.paths import UNREADABLE_JSON
from tracekit.workload.pipeline import find_folder


def run_arm(
    turn: ArmRun,
    words: Sequence[str],
    folder: Path,
    launcher: Sequence[str] = (),
    template: Template | None = None,
) -> ArmRun:
    """``tracekit profile WORDS`` into `folder`, its stderr into the log beside it; the turn as it ended.

    A run folder that an interrupted call left there is replaced. When this process is interrupted, the child is ended
    first.

    Args:
        turn: Whose run it is.
        words: A pipeline and the options of ``tracekit profile``.
        folder: The run folder to make.
        launcher: A command that runs the one after it, such as one that limits its memory.
        template: Forks the child, where that works and there is no launcher; else it is started anew.
    """
    log, answer = folder.with_suffix(".log"), folder.with_suffix(".out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    profile = ["profile", *words, "--output", str(folder), "--force", "--no-trace", "--no-report", "--json"]
    start = time.monotonic_ns()
    try:
        code = template.run(profile, find_folder(words[0]), answer, log) if template and not launcher else None
        if code is None:
            code = _started([*launcher, sys.executable, "-m", "tracekit", *profile], answer, log)
        summary = _summary(answer.read_bytes())
    finally:
        answer.unlink(missing_ok=True)
    ended = ArmRun(block=turn.block, arm=turn.arm, wall_ns=time.monotonic_ns() - start)
    if code or summary is None or not summary.complete:
        ended.outcome, ended.reason = Outcome.FAILED, _why_failed(code, summary, log)
    elif not summary.conditions.established:
        ended.outcome, ended.reason = Outcome.VOID, summary.conditions.reason
    else:
        ended.outcome = Outcome.DONE
    ended.summary = None if summary is None else small(summary)
    return ended


def small(summary: Summary) -> Summary:
    """The summary without its modules, and with the components' transfers alone: what an experiment keeps."""
    components = [row for row in summary.transfers if not row.parameter and "." not in row.fqn]
    return msgspec.structs.replace(summary, modules=[], transfers=components)


def _started(command: Sequence[str], answer: Path, log: Path) -> int:
    """Run a command to its end."""
    with answer.open("wb") as stdout, log.open("wb") as stderr:
        # A session of its own: Ctrl-C comes to it through us alone, and once.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            return child.wait()
        except BaseException:
            _end(child)
            raise


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to end in order, and insist after a while."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _summary(out: bytes) -> Summary | None:
    try:
        return msgspec.json.decode(out, type=Summary)
    except UNREADABLE_JSON:
        return None


def _why_failed(code: int, summary: Summary | None, log: Path) -> str:
    """One line: what ended the pipeline, else the signal, else the last line that the process wrote."""
    if summary is not None and summary.incomplete_reason:
        return summary.incomplete_reason
    if code < 0:
        return f"ended by {signal.Signals(-code).name}: see {log}"
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("tracekit: ") if lines else f"exit code {code}: see {log}"
