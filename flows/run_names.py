"""The names, tags and labels of the runs of an image, by which users find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.runtime import flow_run as this_flow_run

from flows.run_records import log_errors
from tasks.grid.tiles import Region
from tasks.request import Request
from tasks.request.locations import file_name

IMAGE_TAG = "image"
"""Tag of the runs of images: as their deployments have it, so that a filter finds them all."""

_OWNER = "owner:"
_LONGEST_LABEL = 256  # characters of the value of a tag in AWS


def run_name(image_url: str, job_id: str) -> str:
    """The name of an image's run, as users see it in Prefect."""
    return f"{file_name(image_url)} - {job_id}"


def region_run_name(image_url: str, region: Region) -> str:
    """The name of the run of an image's region."""
    return f"{file_name(image_url)} {region.name}"


def tags(request: Request) -> list[str]:
    """The tags of the runs of an image and its regions: job, model, and owner if there is one."""
    found = [f"job:{request.job_id}", f"model:{request.image_processor.short_name}"]
    return [*found, owner_tag(request.owner)] if request.owner else found


def owner_tag(owner: str) -> str:
    """The tag of the runs of an owner's jobs."""
    return f"{_OWNER}{owner}"


def has_owner(tags: Iterable[str]) -> bool:
    """Whether tags are those of a run of a job with an owner."""
    return any(tag.startswith(_OWNER) for tag in tags)


def infrastructure_labels(
    request: Request, image_url: str, of_deployment: Mapping[str, Any] | None
) -> dict[str, dict[str, str]]:
    """The job variables that label what a run is worked by: on ECS, the tags of its task.

    By them a bill is divided among jobs, and by the tags of the message. Labels that the deployment
    has stay, as far as they have other names.

    Args:
        request: The message.
        image_url: One of its images.
        of_deployment: The job variables of the deployment.
    """
    own = {"swath:job": request.job_id, "swath:image": file_name(image_url)}
    labels: dict[str, str] = (of_deployment or {}).get("labels") or {}
    # in what a message says, Prefect would replace placeholders by blocks, secrets among them
    of_message = {name: value.replace("{{", "--") for name, value in (request.tags | own).items()}
    given = labels | of_message
    return {"labels": {name: value[:_LONGEST_LABEL] for name, value in given.items()}}


def add_tags(request: Request) -> None:
    """Add the tags of an image's run to the current run, whoever started it."""
    found = this_flow_run.tags
    missing = [tag for tag in [IMAGE_TAG, *tags(request)] if tag not in found]
    if missing:
        with log_errors("The tags of this run"), get_client(sync_client=True) as client:
            client.update_flow_run(UUID(this_flow_run.id), tags=[*found, *missing])
