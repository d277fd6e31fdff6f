"""The record of an image of a job, and how long its answers are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.records.folders import image_folder
from tasks.records.record import (
    CANCELLED,
    ImageRecord,
    Recorder,
    read_record,
    read_records,
)
from tasks.records.retention import sweep
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.settings import settings
from tasks.storage import objects
from tests.job_scene import request

URL = "s3://images/harbour.tif"
SECRET = "{{ prefect.blocks.secret.ships.token }}"
ANSWERS = "/work/question-1/answers"
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def work(tmp_path: Path) -> Iterator[Path]:
    with settings.override(work_uri=str(tmp_path / "work")):
        yield tmp_path / "work"


def begin(url: str = URL, *, job: str = "job-1", run: str = "run-1") -> Recorder:
    recorder = Recorder(job, url, run)
    header = {"Authorization": SECRET}
    recorder.began(
        request(
            Path("/a.tif"), Path("/out"), jobId=job, imageUrls=[url],
            imageProcessor={"name": "http://m/x", "type": "HTTP_ENDPOINT"},
            imageProcessorParameters=header,
        )
    )  # fmt: skip
    return recorder


def summary(status: JobStatus = JobStatus.PARTIAL) -> Summary:
    return Summary(
        job_id="job-1",
        image=URL,
        status=status,
        features=7,
        tiles={"inferred": 3, "blank": 0, "outside": 0, "failed": 2},
        shares={"inferred": 0.75, "blank": 0.0, "outside": 0.0, "failed": 0.25},
        rejected=0,
        reasons=[("HTTP 500", 2)],
        outputs={"geojson": "s3://out/harbour.tif.geojson"},
    )


def known(url: str = URL, job: str = "job-1") -> ImageRecord:
    found = read_record(job, url)
    assert found is not None
    return found


def test_a_record_follows_a_run_from_its_start_to_its_end() -> None:
    recorder = begin()
    assert (known().status, known().attempts, known().ended) == ("STARTED", 1, None)
    assert known().request["imageProcessorParameters"] == {"Authorization": SECRET}
    assert "tileOverlap" not in known().request  # as in the message
    recorder.planned("etag-1", ANSWERS, 5)
    assert (known().status, known().etag, known().planned) == ("IN_PROGRESS", "etag-1", 5)
    recorder.finished(summary(), "request-1", "etag-1")
    last = known()
    assert (last.status, last.features, last.covered) == ("PARTIAL", 7, 0.75)
    assert last.reasons == [("HTTP 500", 2)]
    assert last.outputs == {"geojson": "s3://out/harbour.tif.geojson"}
    assert last.ended is not None
    recorder.ended(JobStatus.FAILED, "told by a hook")
    assert known() == last


@pytest.mark.parametrize("status", [JobStatus.FAILED, CANCELLED])
def test_the_end_of_a_run_that_published_nothing_is_recorded(status: JobStatus) -> None:
    begin().ended(status, "the reason")
    assert (known().status, known().message) == (status, "the reason")
    assert known().ended is not None


def test_a_run_that_another_has_followed_writes_no_more() -> None:
    dead = begin()
    dead.planned("etag-1", ANSWERS, 5)
    begin(run="run-2")
    dead.finished(summary(), "request-1", "etag-1")
    assert (known().run, known().attempts, known().status) == ("run-2", 2, "STARTED")
    assert known().answers == "/work/question-1/answers"  # so that its answers are found


def test_what_cannot_be_written_fails_no_job(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    work.write_text("no folder")
    begin().finished(summary(), "request-1", "etag-1")
    assert "The record in" in caplog.text


def test_records_are_listed_by_job(work: Path) -> None:
    for url, job in [(URL, "job-1"), ("s3://images/b.tif", "job-1"), (URL, "a: b")]:
        begin(url, job=job)
    (work / "jobs" / "broken" / "x").mkdir(parents=True)
    (work / "jobs" / "broken" / "x" / "record.json").write_text("{")
    assert {record.image_url for record in read_records("job-1")} == {URL, "s3://images/b.tif"}
    assert sorted(record.job_id for record in read_records()) == ["a: b", "job-1", "job-1"]
    assert read_records("job-2") == []


def answers(url: str = URL, job: str = "job-1") -> Path:
    """A kept answer of an image."""
    path = Path(image_folder(job, url)) / "question-1" / "answers" / "a.arrow"
    objects.put(str(path), b"answer")
    return path


def age(path: Path, days: float) -> None:
    """Let every file below a folder look as if it had been written days ago."""
    then = (NOW - timedelta(days=days)).timestamp()
    for each in path.rglob("*"):
        os.utime(each, (then, then))


def live(_: ImageRecord) -> bool:
    return True


def ended(_: ImageRecord) -> bool:
    return False


def test_answers_go_a_day_after_success_and_the_record_stays() -> None:
    begin().finished(summary(JobStatus.SUCCESS), "request-1", "etag-1")
    path = answers()
    assert sweep(NOW + timedelta(hours=23), ended) == 0
    assert path.exists()
    assert sweep(NOW + timedelta(hours=25), live) == 0
    assert path.exists()
    assert sweep(NOW + timedelta(hours=25), ended) == 1
    assert not path.exists()
    assert known().answers_removed == NOW + timedelta(hours=25)
    assert sweep(NOW + timedelta(hours=26), ended) == 0
    assert sweep(NOW + timedelta(days=15), ended) == 1
    assert read_records() == []


def test_answers_of_an_image_without_success_go_when_nothing_was_written_for_long(
    work: Path,
) -> None:
    begin().finished(summary(JobStatus.PARTIAL), "request-1", "etag-1")
    path = answers()
    assert sweep(NOW + timedelta(days=13), ended) == 0
    assert sweep(NOW + timedelta(days=15), live) == 0
    assert path.exists()
    assert sweep(NOW + timedelta(days=15), ended) == 1
    assert list((work / "jobs").iterdir()) == []


def test_a_part_that_is_new_keeps_the_others() -> None:
    begin()
    answers()
    age(Path(image_folder("job-1", URL)), 40)
    newest = answers().with_name("b.arrow")
    objects.put(str(newest), b"answer")
    record = known().model_copy(update={"updated": NOW - timedelta(days=40)})
    (newest.parents[2] / "record.json").write_text(record.model_dump_json())
    assert sweep(NOW, ended) == 0
    assert newest.exists()


def test_answers_without_a_record_go_by_their_age(work: Path) -> None:
    path = answers()
    assert sweep(NOW + timedelta(days=13), ended) == 0
    assert path.exists()
    assert sweep(NOW + timedelta(days=15), ended) == 1
    assert not path.exists()


def test_what_cannot_be_removed_stops_no_sweep(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = answers()
    broken = path.parents[3] / "0" / "record.json"
    broken.mkdir(parents=True)  # no file, so it cannot be read
    assert sweep(NOW + timedelta(days=15), ended) == 1
    assert (broken.exists(), path.exists()) == (True, False)
    assert "is not removed" in caplog.text
