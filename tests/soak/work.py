"""The images of a soak's jobs: uploaded, and what each comes to without a fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from deployments.local.resources import IMAGE_BUCKET, RESULT_BUCKET
from tasks.reporting.status import image_id_of
from tests.chain import Chain
from tests.soak import pictures
from tests.soak.drawing import Condition, Job, Picture
from tests.soak.expected import Result, expected


@dataclass(frozen=True)
class Work:
    """An image of a job.

    Attributes:
        job: The job.
        picture: The image.
        message: The job's message.
        fault_free: What it comes to without a fault.
    """

    job: Job
    picture: Picture
    message: Mapping[str, Any]
    fault_free: Result

    @property
    def url(self) -> str:
        return _url(self.picture)

    @property
    def id(self) -> str:
        """Its id in statuses."""
        return image_id_of(self.job.id, self.url)

    @property
    def refused(self) -> int | None:
        """The tile that the model refuses each time."""
        refused = self.job.condition is Condition.REFUSED and self.fault_free.digests
        return max(self.fault_free.digests) if refused else None


def prepare(job: Job, chain: Chain, models: str, folder: Path) -> Iterator[Work]:
    """Upload a job's images, and find out what each comes to without a fault."""
    folder.mkdir()
    for picture in job.pictures:
        if job.condition is not Condition.MISSING:
            pictures.write(folder / "image.tif", job, picture)
            chain.upload(folder / "image.tif", picture.name)
    message = {
        "jobId": job.id,
        "imageUrls": [_url(picture) for picture in job.pictures],
        "outputs": [{"type": "S3", "bucket": RESULT_BUCKET, "prefix": job.id}],
        "imageProcessor": {"name": f"{models}/{job.model}/invocations", "type": "HTTP_ENDPOINT"},
        "imageProcessorTileSize": 256,
        "imageProcessorTileOverlap": 64,
        "imageProcessorTileFormat": "GTIFF",
    }
    if job.condition is Condition.PART:
        message["regionOfInterest"] = pictures.region_of_interest(job.pictures[0])
    quiet = chain.models.model().url
    for picture in job.pictures:
        work = partial(expected, message, _url(picture), quiet, folder)
        fault_free = work()
        if job.condition is Condition.REFUSED:
            fault_free = work(failed={max(fault_free.digests)})
        yield Work(job, picture, message, fault_free)


def _url(picture: Picture) -> str:
    return f"s3://{IMAGE_BUCKET}/{picture.name}"
