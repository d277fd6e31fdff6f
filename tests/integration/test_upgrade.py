"""What a previous version left is taken over: Prefect's database, answers, records, results."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from rich.console import Console

from deployments.jobs.listing import list_jobs
from deployments.local.prefect_server import CLIENT_SETTINGS, start_server
from deployments.local.processes import Processes
from tasks.aws.clients import client
from tasks.settings import settings
from tests.previous.make import BUCKET, WORK, message

VERSIONS = Path(__file__).parents[1] / "previous"


PROGRAM = """
import json, os, sys
from tests.previous.make import Model

model = Model()
os.environ.update(model.variables)
from flows.image import image
from tasks.request import Request

for line in sys.stdin:
    before, request = model.calls, Request.parse(line)
    state = image(request, request.image_urls[0], return_state=True)
    print(json.dumps([state.name, state.message, model.calls - before]))
"""
"""Runs requests in a process of its own: Prefect's clients of a process keep to one server."""


@dataclass(frozen=True)
class TakenOver:
    """This version on what another one left.

    Attributes:
        keeps: Whether that version kept answers and records.
    """

    keeps: bool

    def run(self, *requests: dict[str, Any]) -> list[tuple[str, str, int]]:
        """Run requests; how each ends, in words too, and how often the model was called for it."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input="\n".join(map(json.dumps, requests)),
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def jobs(self, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
        """Status by job, as `swath jobs` says."""
        capsys.readouterr()
        list_jobs(Console(), json=True)
        return {job["job_id"]: job["status"] for job in json.loads(capsys.readouterr().out)}


@pytest.fixture(scope="module", params=["0.2.0", "420b234"])
def taken_over(
    request: pytest.FixtureRequest, aws: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TakenOver]:
    folder = tmp_path_factory.mktemp("previous")
    s3, keeps = client("s3"), False
    s3.create_bucket(Bucket=BUCKET)
    (folder / "prefect").mkdir()
    with tarfile.open(VERSIONS / f"{request.param}.tar.gz") as tar:
        for entry in tar:
            body = (tar.extractfile(entry) or io.BytesIO()).read()
            kind, _, key = entry.name.partition("/")
            if kind == "bucket":
                s3.put_object(Bucket=BUCKET, Key=key, Body=body)
                keeps |= key.endswith("record.json")
            elif kind == "prefect.sql":
                with closing(sqlite3.connect(folder / "prefect" / "prefect.db")) as database:
                    database.executescript(body.decode())
    with Processes() as processes, pytest.MonkeyPatch.context() as patch:
        server = start_server(processes, folder)
        server.wait()
        for name, value in CLIENT_SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv("SWATH_STORAGE_PATIENCE", "2")
        patch.setenv("PREFECT_API_URL", server.api_url)
        patch.setenv("SWATH_WORK_URI", WORK)
        settings.cache_clear()
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield TakenOver(keeps)
    settings.cache_clear()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for each in page["Contents"]:
            s3.delete_object(Bucket=BUCKET, Key=each["Key"])


def test_jobs_of_a_previous_version_go_on(
    taken_over: TakenOver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert taken_over.jobs(capsys) == {"whole": "SUCCESS", "part": "PARTIAL"}
    again = [message(job) for job in ("whole", "part")]
    for asked in again:
        asked["outputs"][0]["formats"] = ["geojson", "parquet", "csv"]
    *ends, new = taken_over.run(*again, message("new"))
    for asked, (name, told, calls), missing in zip(again, ends, (0, 2), strict=True):
        assert name == "Completed", told
        assert "100 % of the area covered" in told
        assert calls == (missing if taken_over.keeps else 6)
        where = f"results/{asked['jobId']}/"
        listed = client("s3").list_objects_v2(Bucket=BUCKET, Prefix=where)["Contents"]
        assert f"{where}scene.tif.csv" in {each["Key"] for each in listed}
    assert (new[0], new[2]) == ("Completed", 6)
    assert taken_over.jobs(capsys) == {"whole": "SUCCESS", "part": "SUCCESS", "new": "SUCCESS"}
