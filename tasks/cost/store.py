"""What each piece of work on an image used, kept until the image's run adds it up.

Regions may be worked by other processes, and again by others if these are killed. So each of them
stores what it used in an object of its own, beside the answers, and the run of the image collects
these objects when it ends; what an earlier run of the job has left is among them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import sha256
from uuid import uuid4

from pydantic import ValidationError

from tasks.cost.usage import Usage
from tasks.errors import PublishError
from tasks.storage import conditional, objects

logger = logging.getLogger(__name__)

_ENDING = ".usage.json"


def store_usage(folder: str, job_id: str, usage: Usage) -> None:
    """Store what some work for a job used; an error is logged, as it only informs.

    Args:
        folder: Folder or s3:// prefix.
        job_id: The job.
        usage: What was used since the last call.
    """
    uri = objects.join(folder, f"{_prefix(job_id)}{uuid4().hex}{_ENDING}")
    try:
        objects.put(uri, usage.model_dump_json().encode())
    except PublishError as error:
        logger.warning("What this work used is not recorded: %s", error)


def stored_usage(folder: str, job_id: str) -> dict[str, Usage]:
    """What pieces of work for a job used, by the URI of the object that says it.

    Args:
        folder: Folder or s3:// prefix.
        job_id: The job.
    """
    usages: dict[str, Usage] = {}
    try:
        for name in objects.list_names(folder):
            uri = objects.join(folder, name)
            if name.startswith(_prefix(job_id)) and (found := conditional.read(uri)):
                usages[uri] = Usage.model_validate_json(found[0])
    except (PublishError, ValidationError) as error:
        logger.warning("What the regions used is not known as a whole: %s", error)
    return usages


def forget_usage(uris: Iterable[str]) -> None:
    """Remove objects of `stored_usage` that were added up; an error is logged."""
    try:
        for uri in uris:
            objects.remove_object(uri)
    except PublishError as error:
        logger.warning("What was used may be counted twice: %s", error)


def _prefix(job_id: str) -> str:
    """What the names of a job's objects begin with: jobs may have answers in common."""
    return f"{sha256(job_id.encode()).hexdigest()[:16]}."
