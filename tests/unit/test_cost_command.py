"""`swath cost` adds up what the runs of images used and cost, from their records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.cli import app
from tasks.cost.money import Cost
from tasks.cost.usage import Usage
from tasks.errors import RequestError
from tasks.records.record import Recorder, read_record
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tests.job_scene import paint, request


def record(folder: Path, job: str, calls: int, cost: float | None, **fields: Any) -> None:
    """The record of an image after one run of it."""
    asked = request(folder / "scene.tif", folder / "out", jobId=job, **fields)
    url = asked.image_urls[0]
    recorder = Recorder(job, url, f"run-{calls}")
    recorder.began(asked)
    summary = Summary(
        job_id=job,
        image=url,
        status=JobStatus.SUCCESS,
        features=1,
        tiles={"inferred": calls, "blank": 0, "outside": 0, "failed": 0},
        shares={"inferred": 1.0, "blank": 0.0, "outside": 0.0, "failed": 0.0},
        rejected=0,
        reasons=[],
        outputs={},
        usage=Usage(calls=calls, cpu_seconds=2.0, bytes_read=1000),
        cost=None if cost is None else Cost(currency="EUR", calls=cost),
    )
    recorder.finished(summary, asked.identity(url), "etag")


@pytest.fixture
def recorded(allowed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three jobs of two owners, one of which has run twice."""
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE", "2")  # the command sets it for its process
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    record(allowed, "first", 10, 1.0, tags={"owner": "maritime", "costCentre": "1"})
    record(allowed, "first", 3, 0.25, tags={"owner": "maritime", "costCentre": "1"})
    record(allowed, "second", 20, 2.0, tags={"owner": "maritime"})
    record(allowed, "third", 40, 4.0, tags={"owner": "land"})
    return allowed


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert app(["cost", *options]) == 0
    return capsys.readouterr().out


def test_a_record_adds_up_the_runs_of_its_image(recorded: Path) -> None:
    found = read_record("first", str(recorded / "scene.tif"))
    assert found is not None
    assert found.usage == Usage(calls=13, cpu_seconds=4.0, bytes_read=2000)
    assert found.cost == {"EUR": 1.25}


def test_costs_are_added_up_by_owner(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in printed(capsys, "--by", "owner").splitlines()]
    assert [line[0] for line in lines] == ["OWNER", "land", "maritime", "total"]
    assert lines[1][1:4] == ["1", "1", "40"]
    assert lines[2][1:4] == ["2", "2", "33"]
    assert [line[-2:] for line in lines[1:]] == [["4.00", "EUR"], ["3.25", "EUR"], ["7.25", "EUR"]]


def test_an_owner_is_found_however_the_tag_is_written(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(recorded, "fourth", 7, 1.0, tags={"Owner": "maritime"})
    for by in ("owner", "Owner"):
        lines = [line.split() for line in printed(capsys, "--by", by).splitlines()]
        assert [line[:4] for line in lines[1:3]] == [
            ["maritime", "3", "3", "40"],
            ["land", "1", "1", "40"],
        ]


def test_costs_are_added_up_as_json(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "--by", "costCentre", "--json"))
    assert found["sums"]["1"]["usage"]["calls"] == 13
    assert found["sums"]["–"]["cost"] == {"EUR": 6.0}
    assert found["total"]["jobs"] == 3
    by_model = json.loads(printed(capsys, "--by", "model", "--json"))
    assert by_model["sums"].keys() == {"bright-targets"}
    of_job = json.loads(printed(capsys, "--job", "second", "--json"))
    assert of_job["total"]["cost"] == {"EUR": 2.0}


def test_a_tag_or_job_that_is_not_known_is_refused(recorded: Path) -> None:
    with pytest.raises(RequestError, match="--by: no job has a tag 'team'; give job or model or"):
        app(["cost", "--by", "team"])
    with pytest.raises(RequestError, match="fourth: there is no record of it"):
        app(["cost", "--job", "fourth"])


@pytest.mark.parametrize(
    ("prices", "problem"),
    [
        ('{"models": {"a": {"call": -1}}}', "SWATH_PRICES.models.a.call: -1 is below 0; give at"),
        ('{"cal": 1}', "SWATH_PRICES.cal: unknown field; did you mean call?"),
        ("{0.5}", "SWATH_PRICES: '{0.5}' is not JSON (Expecting property name"),
        ("[0.5]", "SWATH_PRICES: a list is not an object; give one in { }"),
    ],
)
def test_wrong_prices_are_refused_in_a_line(allowed: Path, prices: str, problem: str) -> None:
    command = [sys.executable, "-m", "deployments.cli", "plan", str(paint(allowed / "scene.tif"))]
    environment = os.environ | {"SWATH_PRICES": prices}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.startswith(f"swath: {problem}")
    assert found.stderr.count("\n") == 1
