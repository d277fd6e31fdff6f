"""What `swath status` and `swath jobs` print of the records, without a Prefect server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deployments.jobs.listing import list_jobs
from deployments.jobs.status import show_status
from deployments.run.command import EXIT
from tasks.errors import RequestError
from tasks.records.record import Recorder
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.settings import settings
from tests.job_scene import request

REASON = "http://m/x answered HTTP 500"
URLS = ["s3://images/harbour.tif", "s3://images/port.tif"]


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A job of two images that ended with PARTIAL."""
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    monkeypatch.setenv("SWATH_STATE_DIR", str(tmp_path / "state"))  # without a running stack
    monkeypatch.setenv("SWATH_STORAGE_PATIENCE", "2")  # the commands set it if it is not
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))  # without profiles
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    settings.cache_clear()
    for url in URLS:
        recorder = Recorder("job-1", url, f"run-{url}")
        recorder.began(request(Path("/a.tif"), Path("/out"), jobId="job-1", imageUrls=URLS))
        recorder.finished(summary(url), "request", "etag")
    yield
    settings.cache_clear()


def summary(url: str) -> Summary:
    return Summary(
        job_id="job-1",
        image=url,
        status=JobStatus.PARTIAL,
        features=7,
        tiles={"inferred": 3, "blank": 0, "outside": 0, "failed": 1},
        shares={"inferred": 0.75, "blank": 0.0, "outside": 0.0, "failed": 0.25},
        rejected=0,
        reasons=[(REASON, 1)],
        outputs={},
    )


def console() -> Console:
    return Console(file=io.StringIO())


def test_a_job_that_has_ended_is_shown_with_each_reason_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show_status("job-1", None, console()) == 0
    tiles = "tiles: 3 inferred, 0 blank, 0 outside, 1 failed"
    outcome = f"PARTIAL: 7 features; 75.0 % of the area covered; 25.0 % failed in 1 tile; {tiles}"
    assert capsys.readouterr().out.splitlines() == [
        "job-1: PARTIAL; images: 2 PARTIAL",
        f"{URLS[0]}  {outcome}",
        f"    1 tile failed: {REASON}",
        f"{URLS[1]}  {outcome}",
        f"    1 tile failed: {REASON}",
    ]


def test_a_watched_job_is_left_whole_on_a_small_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TTY_COMPATIBLE": "1", "COLUMNS": "40", "LINES": "3"}.items():
        monkeypatch.setenv(name, value)
    show_status("job-1", None, console())
    whole = capsys.readouterr().out
    assert show_status("job-1", None, console(), watch=True) == EXIT[JobStatus.PARTIAL]
    shown = capsys.readouterr().out
    assert "\x1b[" in shown
    assert shown.endswith(whole)


def test_one_image_of_a_job_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_status("job-1", "port.tif", console(), json=True)
    (image,) = json.loads(capsys.readouterr().out)["images"]
    assert (image["image"], image["reasons"]) == (URLS[1], [[REASON, 1]])
    with pytest.raises(
        RequestError, match=r"'pier\.tif' is no image of the job; give one of s3://"
    ):
        show_status("job-1", "pier.tif", console())


def test_who_has_no_server_is_told_that_the_next_stack_has_the_jobs_of_the_last() -> None:
    said = console()
    list_jobs(said)
    text = " ".join(said.file.getvalue().split())  # type: ignore[attr-defined]
    assert "or start `swath up`, which goes on with the jobs of the last one. What follows" in text


def test_a_list_of_jobs_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    list_jobs(console())
    header, line = capsys.readouterr().out.splitlines()
    assert header.endswith("CHANGED (UTC)")
    assert line.split()[:3] == ["job-1", "2", "PARTIAL"]
    assert max(len(header), len(line)) <= 80
