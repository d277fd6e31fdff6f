"""The folders of the work store: one for each image of each job."""

from __future__ import annotations

import re
from hashlib import sha256

from tasks.request.locations import file_name
from tasks.settings import settings
from tasks.storage import objects

_LONGEST_NAME = 60  # characters of an image's name in that of its folder


def image_folder(job_id: str, image_url: str) -> str:
    """The folder or s3:// prefix of all that is kept of an image of a job."""
    name = re.sub(r"[^\w.-]+", "-", file_name(image_url), flags=re.ASCII)[-_LONGEST_NAME:]
    name = f"{name.lstrip('.')}-{sha256(image_url.encode()).hexdigest()[:16]}"
    if settings().keep_by_job:
        return objects.join(jobs_folder(), job_id, name)
    return objects.join(settings().work_uri, name)


def jobs_folder() -> str:
    """The folder or s3:// prefix with the folder of each job, if what is kept is kept by job."""
    return objects.join(settings().work_uri, "jobs")


def spent_folder(job_id: str) -> str:
    """The folder or s3:// prefix of what a job has spent of its limit."""
    return objects.join(jobs_folder(), job_id, "spent")


def forget_image(job_id: str, image_url: str) -> None:
    """Remove all that is kept of an image of a job.

    Raises:
        PublishError: It cannot be removed.
    """
    objects.remove(image_folder(job_id, image_url))
