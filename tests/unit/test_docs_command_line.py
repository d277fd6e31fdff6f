"""docs/command-line.md has all commands, and the options of `swath run` with their defaults."""

from __future__ import annotations

import io
import re

import pytest
from cyclopts import UnknownCommandError
from rich.console import Console

from deployments.cli import app
from tasks.request import Request
from tasks.request.outputs import FeatureFormat
from tests.pages import read, rows

PAGE = read("command-line")


def listed(*command: str) -> dict[str, str]:
    """The options or commands that a help page lists, each with its text."""
    sink = io.StringIO()
    app.help_print([*command], console=Console(file=sink, width=400))
    lines = re.findall(r"^│ \*?\s*((?:--)?[a-z-]+)(.*?)│$", sink.getvalue(), re.MULTILINE)
    return {name: text for name, text in lines if name not in {"--help", "--version"}}


def table(first: str) -> dict[str, list[str]]:
    return {cells[0].strip("`"): cells[1:] for cells in rows(PAGE, first)}


def test_every_option_is_listed_with_its_default() -> None:
    options = table("option")
    shown = listed("run")
    assert list(options) == list(shown)
    for name, (default, *_) in options.items():
        found = re.search(r"\[default: (.*?)\]", shown[name])
        if found:
            assert default == found[1], name
        else:
            assert ("[required]" in shown[name]) == (default == "required"), name


def test_the_options_of_a_plan_are_those_of_model_image_tiles_and_raster() -> None:
    options = list(table("option"))
    end = options.index("--min-area") + 1
    assert list(listed("plan")) == [*options[:end], "--json"]


def test_every_command_is_listed() -> None:
    assert {name.removeprefix("swath ") for name in table("command")} == listed().keys()


def test_every_field_of_a_request_that_is_named_exists() -> None:
    schema = str(Request.model_json_schema())
    for cells in table("option").values():
        for field in re.findall(r"`(\w+)(?:\.\w+)?`", cells[-1]):
            assert f"'{field}'" in schema


@pytest.mark.parametrize("command", ["status", "cancel", "redrive", "remerge", "publish"])
def test_the_commands_for_one_job_take_one_of_its_images(command: str) -> None:
    sink = io.StringIO()
    app.help_print([command], console=Console(file=sink, width=80))
    assert sink.getvalue().startswith(f"Usage: swath {command} JOB [IMAGE]")


def test_a_command_that_is_misspelt_is_answered_with_the_one_that_is_meant() -> None:
    with pytest.raises(UnknownCommandError, match='Did you mean "status"'):
        app.parse_args(["stauts"], exit_on_error=False, print_error=False)


def test_the_formats_that_the_page_of_jobs_names_exist() -> None:
    named = re.findall(r"--formats ([\w,]+)", read("jobs"))
    assert named
    assert {name for text in named for name in text.split(",")} <= set(FeatureFormat)


@pytest.mark.parametrize("command", ["run", "plan", "submit", "up", "demo", "schema"])
def test_no_option_has_a_twin_that_means_nothing(command: str) -> None:
    sink = io.StringIO()
    app.help_print([command], console=Console(file=sink, width=80))
    assert set(re.findall(r"--(?:empty|no)-[a-z-]+", sink.getvalue())) <= {"--no-prefect"}
    assert max(map(len, sink.getvalue().splitlines())) <= 80
