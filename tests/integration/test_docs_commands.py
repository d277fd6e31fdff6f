"""Every command that a page shows exists, with these options: by the tools' own definitions.

Those of the README that end by themselves are run, as a reader pastes them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import jmespath  # type: ignore[import-untyped]
import numpy as np
import pytest
import rasterio
from affine import Affine
from botocore import xform_name
from botocore.session import Session
from cyclopts import App
from prefect.cli._app import _app as prefect_app

from deployments.cli import app as swath_app
from tasks.publish.formats import FORMATS, Format
from tasks.request import Request
from tests.pages import PAGES, ROOT, blocks, commands, mentions

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
GLOBAL = {"output", "query", "region"}  # options of every aws command
OF_THE_CLI = {  # aws commands that are none of a service: their options
    ("cloudformation", "deploy"): {
        "capabilities",
        "parameter-overrides",
        "s3-bucket",
        "stack-name",
        "template-file",
    },
    ("ecr", "get-login-password"): set(),
    ("logs", "tail"): {"follow", "log-stream-name-prefix", "since"},
    ("s3", "cp"): {"recursive"},
    ("s3", "mb"): set(),
    ("s3", "rb"): {"force"},
}
RENAMED = {("sns", "subscribe", "endpoint"): "notification-endpoint"}  # by the aws command


def check_swath(words: list[str]) -> None:
    if words != ["--version"]:
        _parse(swath_app, words)


def check_prefect(words: list[str]) -> None:
    own = words[1:] if words[0] == "--no-prompt" else words  # an option of any command
    _parse(prefect_app, [str(uuid4()) if word.endswith("ID") else word for word in own])


def _parse(app: App, words: list[str]) -> None:
    chain, _, _ = app.parse_commands(words)
    assert chain, words
    if len(chain) < len(words):
        app.parse_args(words, exit_on_error=False, print_error=False)


def check_prefect_aws(words: list[str]) -> None:
    place = next(i for i, word in enumerate([*words, "--"]) if word.startswith("--"))
    told = _help(*words[:place])
    options = {word for word in words if word.startswith("--")}
    assert {option for option, needed in told.items() if needed} <= options <= told.keys()


@cache
def _help(*command: str) -> dict[str, bool]:
    """Options of a command of prefect-aws, and whether each is needed."""
    done = subprocess.run(
        [Path(sys.executable).with_name("prefect-aws"), *command, "--help"],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^│ (\*| ) +(--[\w-]+)", done.stdout, re.MULTILINE)
    return {option: mark == "*" for mark, option in found}


def check_make(words: list[str]) -> None:
    target, *variables = words
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    for variable in variables:
        assert f"$({variable.partition('=')[0]})" in MAKEFILE, variable


@cache
def _session() -> Session:
    return Session()


def check_aws(words: list[str]) -> None:
    service, name, *rest = words
    options = {word.removeprefix("--") for word in rest if word.startswith("--")}
    if (known := OF_THE_CLI.get((service, name))) is not None:
        assert options <= known | GLOBAL
        return
    model = _session().get_service_model(service)
    if name == "wait":
        waiters = _session().get_waiter_model(service)
        kinds = {xform_name(each, "-"): waiters.get_waiter(each) for each in waiters.waiter_names}
        name = xform_name(kinds[rest[0]].operation, "-")
    operation = model.operation_model({xform_name(o, "-"): o for o in model.operation_names}[name])
    shape: Any = operation.input_shape
    taken, needed = (
        {RENAMED.get((service, name, option := xform_name(each, "-")), option) for each in members}
        for members in ((shape.members, shape.required_members) if shape else ((), ()))
    )
    assert options <= taken | GLOBAL
    assert needed <= options or not rest  # in prose, the name alone
    if "query" in options:
        query = rest[rest.index("--query") + 1]
        _select(jmespath.compile(query).parsed, operation.output_shape)


def _select(node: dict[str, Any], shape: Any) -> Any:
    """The shape that a JMESPath leads to; an assertion fails where it leads nowhere."""
    inner = node["children"]
    match node["type"]:
        case "field":
            return _member(shape, node["value"])
        case "index":
            return shape.member
        case "multi_select_list":
            return [_select(each, shape) for each in inner]
        case "projection" | "filter_projection":
            one = _select(inner[0], shape).member
            for comparison in inner[2:]:
                _select(comparison["children"][0], one)
            return _select(inner[1], one)
    assert node["type"] in {"flatten", "identity", "index_expression", "subexpression"}
    for each in inner:
        shape = _select(each, shape)
    return shape


def _member(shape: Any, name: str) -> Any:
    if shape.type_name == "map":
        return shape.value
    assert name in shape.members, name
    return shape.members[name]


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "aws": check_aws,
    "make": check_make,
    "prefect": check_prefect,
    "prefect-aws": check_prefect_aws,
    "swath": check_swath,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    for program, *words in commands(page.read_text(encoding="utf-8")):
        try:
            CHECKS[program](words)
        except Exception as error:
            raise AssertionError(f"{program} {' '.join(words)}: {error!r}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_a_pages_prose_mentions_exist(page: Path) -> None:
    for program, *words in mentions(page.read_text(encoding="utf-8")):
        try:
            CHECKS[program](words)
        except Exception as error:
            raise AssertionError(f"{program} {' '.join(words)}: {error!r}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_shell_reads_the_commands_of_a_page(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8"), "sh"):
        done = subprocess.run(
            ["bash", "-n"], input=block, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), block


EXAMPLES = {  # files that a page has its reader write
    "deployments/compose/.env",
    "tasks/inference/grpc.py",
    "tasks/merge/algorithms/centre_nms.py",
    "tasks/publish/wkt.py",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:deployments|docs|flows|tasks|tests)/[\w./-]*)`", text))
    assert not {path for path in named if not (ROOT / path).exists()} - EXAMPLES


def test_the_format_of_the_guide_is_written_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code that CONTRIBUTING.md shows is a line of `FORMATS` away from being published."""
    from tests.unit.test_publish_formats import UTM, detections, written

    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^   ```python\n(.*?)^   ```$", guide, re.MULTILINE | re.DOTALL)
    module: dict[str, Any] = {}
    exec(textwrap.dedent(code), module)
    monkeypatch.setitem(FORMATS, "wkt", Format("wkt", module["wkt_file"]))
    body = written("wkt", tmp_path / "a.wkt", [detections(3)], UTM)
    assert [line[:10] for line in body.splitlines()] == [b"POLYGON (("] * 3


RUNS_ON = re.compile(r"^(make .*|swath (up|submit|models serve)\b.*)$", re.MULTILINE)
"""Commands of the README that set up, serve until Ctrl-C, or need what is served."""


@pytest.fixture
def readme_folder(tmp_path: Path) -> Path:
    """A clone as the README's reader has it after `make setup`, with an image in it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    pixels = np.full((3, 600, 600), 50, np.uint8)
    pixels[:, 300:306, 300:306] = 250
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    profile = {"width": 600, "height": 600, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", transform=transform, **profile
    ) as sink:
        sink.write(pixels)
    return tmp_path


def test_the_commands_of_the_readme_run_in_a_shell_of_their_own(
    readme_folder: Path, models: str
) -> None:
    """One shell, that knows nothing but the system's commands, from the top to the bottom."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pasted = RUNS_ON.sub("", "\n".join(blocks(text, "sh"))).replace("http://127.0.0.1:8080", models)
    assert pasted.count("swath run ") == 3
    done = subprocess.run(
        ["bash", "-ec", pasted],
        stdin=subprocess.DEVNULL,
        cwd=readme_folder,
        env={"HOME": str(readme_folder), "PATH": "/usr/bin:/bin", "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = {path.name for path in (readme_folder / "results").iterdir()}
    endings = ("geojson", "parquet", "coverage.parquet", "swath.json")
    assert results == {".swath", "scene.png", *(f"scene.tif.{ending}" for ending in endings)}
    request = Request.parse((readme_folder / "request.json").read_text())
    assert request.image_urls == (str(readme_folder / "scene.tif"),)


def test_all_tools_are_looked_at() -> None:
    shown = [words[0] for page in PAGES for words in commands(page.read_text(encoding="utf-8"))]
    assert set(shown) == set(CHECKS)
    assert len(shown) > 60


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("aws", "sqs send-message --queue-url X --body X"),
        ("aws", "sqs send-message --queue-url X"),
        ("aws", "sqs get-queue-attributes --queue-url X --query Attribute.QueueArn"),
        ("aws", "ecs wait service-stable --services X"),
        ("aws", "s3 cp X X --all"),
        ("make", "images"),
        ("make", "image IMAGES=X"),
        ("prefect", "gcl update X --limits 3"),
        ("prefect", "flow-run stop X"),
        ("prefect-aws", "ecs-worker deploy-events --cluster X"),
        ("prefect-aws", "ecs-worker deploy-events --stack-name X"),
        ("swath", "submit request.json --now"),
        ("swath", "send request.json"),
    ],
)
def test_a_command_that_there_is_not_is_found_out(program: str, words: str) -> None:
    with pytest.raises(Exception, match=r".*"):
        CHECKS[program](words.split())
