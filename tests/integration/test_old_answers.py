"""A sensor removes answers that were kept long enough, beside its messages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import get_client

from flows.image import image
from tasks.aws.clients import client
from tasks.records.folders import image_folder
from tasks.records.record import ImageRecord, read_record, write_record
from tasks.reporting.status import JobStatus
from tasks.storage import objects
from tests.inbox import open_inbox, sense
from tests.job_scene import request
from tests.polling import until

URL = "s3://images/scene.tif"


@pytest.fixture
def inbox(aws: str, prefect_api: str, allowed: Path) -> Iterator[None]:
    """A queue with no message on it, and a work store in a folder."""
    bucket = f"images-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=bucket)
    with open_inbox(bucket):
        yield


def succeeded(job: str) -> Path:
    """An answer of a job that ended with SUCCESS two days ago."""
    then = datetime.now(UTC) - timedelta(days=2)
    times = {"began": then, "updated": then, "ended": then}
    write_record(
        ImageRecord(
            job_id=job, image_url=URL, request={}, run="run-1", status=JobStatus.SUCCESS, **times
        )
    )
    answer = objects.join(image_folder(job, URL), "question", "answers", "a.arrow")
    objects.put(answer, b"answer")
    return Path(answer)


@pytest.mark.usefixtures("inbox")
def test_a_sensor_removes_old_answers_but_those_of_a_job_that_waits() -> None:
    waits, ended = f"a-{uuid4().hex[:8]}", f"b-{uuid4().hex[:8]}"  # in the order of the sweep
    gone, stays = succeeded(ended), succeeded(waits)
    asked = request(Path("/a.tif"), Path("/out"), jobId=waits, imageUrls=[URL])
    with get_client(sync_client=True) as prefect:
        prefect.create_flow_run(
            image,
            parameters={"request": asked.model_dump(mode="json", exclude_unset=True)},
            tags=[f"job:{waits}"],
        )

    def swept() -> bool:
        sense()  # on a busy machine, it may end before it begins to drain the queue
        record = read_record(ended, URL)
        return record is not None and record.answers_removed is not None

    until(swept)
    assert (gone.exists(), stays.exists()) == (False, True)
