"""How `tracekit profile` splits its own options from a script's arguments, and reads their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tracekit.cli.catalogue import pipeline_rows
from tracekit.cli.main import main
from tracekit.cli.profile import command as profile
from tracekit.cli.targets import complete_target


def parsed(*arguments: str) -> dict[str, Any]:
    """The values of `profile`'s parameters after parsing, without running it."""
    return profile.make_context("profile", list(arguments)).params


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text("")
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("synthetic:flux-tiny", "--offload", "model", "--steps", "3"),
        ("--offload", "model", "--steps", "3", "synthetic:flux-tiny"),
        ("--offload", "model", "synthetic:flux-tiny", "--steps=3"),
    ],
)
def test_options_stand_before_or_after_a_pipeline(arguments: tuple[str, ...]) -> None:
    values = parsed(*arguments)
    assert (values["target"], values["arguments"]) == ("synthetic:flux-tiny", ())
    assert (values["mode"], values["steps"]) == ("model", 3)


def test_everything_after_a_script_is_its_own(script: str) -> None:
    own = ("--steps", "3", "--help", "-m", "--output", "there", "--", "--", "--no-such-option", "x.py")
    values = parsed("--output", "here", "--no-trace", script, *own)
    assert (values["target"], values["arguments"]) == (script, own)
    assert (values["output"], values["no_trace"], values["steps"]) == (Path("here"), True, None)


def test_everything_after_a_module_is_its_own() -> None:
    values = parsed("--force", "-m", "package.module", "--steps", "3", "--", "-h")
    assert (values["target"], values["as_module"]) == ("package.module", True)
    assert (values["arguments"], values["force"]) == (("--steps", "3", "--", "-h"), True)


def test_an_options_value_is_not_the_target() -> None:
    values = parsed("--output", "run.py", "--vram", "2GB", "some/pipeline", "--steps", "3")
    assert (values["target"], values["output"], values["steps"]) == ("some/pipeline", Path("run.py"), 3)


def test_a_folder_named_like_a_script_is_a_pipeline(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline.py"
    folder.mkdir()
    assert parsed(str(folder), "--steps", "3")["steps"] == 3


def test_values_are_converted() -> None:
    values = parsed(
        "p/q", "--vram", "12GB", "--call", "guidance_scale=3.5", "--call", "text=a=b", "--resident-gib", ".5"
    )
    assert values["vram"] == 12 * 10**9
    assert parsed("p/q", "--vram", "12GiB")["vram"] == 12 * 2**30
    assert values["call"] == (("guidance_scale", "3.5"), ("text", "a=b"))
    assert values["resident_gib"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--vram", "12"), "unit"),
        (("--vram", "0GB"), "above zero"),
        (("--call", "novalue"), "key=value"),
        (("--call", "two words=1"), "key=value"),
        (("--steps", "0"), "--steps"),
        (("--runs", "many"), "--runs"),
        (("--link-gbps", "0"), "--link-gbps"),
        (("--offload", "seqential"), "'sequential'"),
        (("--ofload", "model"), "--offload"),
        (("--activity", "magic"), "cupti"),
    ],
)
def test_a_wrong_value_is_named_on_one_line(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "some/pipeline", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tracekit: ")
    assert captured.err.count("\n") == 1
    assert word in captured.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--steps", "3", "SCRIPT"), "--steps is for pipelines"),
        (("--offload", "model", "SCRIPT"), "--offload is for pipelines"),
        (("--runs", "1", "-m", "package.module"), "--runs is for pipelines"),
        (("--json", "SCRIPT"), "tracekit show RUN --json"),
        (("some/pipeline", "more"), "unexpected argument 'more'"),
        (("some/pipeline", "--offload", "model", "--stream"), "--stream belongs to --offload group, not to model"),
        (("some/pipeline", "--resident-order", "largest"), "--resident-order belongs to --offload partial"),
        ((), "TARGET"),
        (("-m",), "TARGET"),
    ],
)
def test_what_makes_no_sense_together_is_refused(
    arguments: tuple[str, ...], word: str, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", *(script if argument == "SCRIPT" else argument for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tracekit: ")
    assert error.count("\n") == 1
    assert word in error


def test_an_unknown_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profle", "x"]) == 2
    assert "Did you mean 'profile'?" in capsys.readouterr().err


def test_completion_offers_pipelines_then_files() -> None:
    items = complete_target(click.Context(profile), profile.params[0], "synthetic:flux-t")
    assert [(item.value, item.type) for item in items] == [
        ("synthetic:flux-tiny", "plain"),
        ("synthetic:flux-t", "file"),
    ]


def test_help_names_every_mode_pipeline_and_option() -> None:
    text = CliRunner().invoke(profile, ["--help"]).stdout
    for name in ("sequential", "partial", "group", *(name for name, _ in pipeline_rows())):
        assert f"  {name} " in text
    options = [option for option in profile.params if isinstance(option, click.Option)]
    assert all(option.opts[0] in text and option.help for option in options)
    assert max(map(len, text.splitlines())) <= 80
