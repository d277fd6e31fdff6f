"""Status messages of image runs on the operator's SNS topic.

Each run publishes STARTED, IN_PROGRESS, and one final status: SUCCESS, PARTIAL or FAILED.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.runtime import flow_run as this_flow_run

from tasks.reporting.status import JobStatus, Status, image_id_of, publish_status
from tasks.request import Request
from tasks.settings import settings

PARTIAL = "Partial"
"""Name of the state of an image's run some of whose tiles failed. Its type is FAILED."""

ANNOUNCED = "swath.announced"
"""Label of a flow run: whether its final status was published."""


def announce_start(request: Request, image_url: str) -> None:
    """Publish STARTED for this image's run; a retry of the run in Prefect publishes it again."""
    if this_flow_run.run_count > 1:  # then its final status has to be published again too
        _label(UUID(this_flow_run.id), announced=False)
    announce(request, image_url, JobStatus.STARTED, "the image is being opened")


def announce(request: Request, image_url: str, status: JobStatus, message: str) -> None:
    """Publish a status of this image's run."""
    started = this_flow_run.get_scheduled_start_time()
    _publish(request.job_id, image_id_of(request.job_id, image_url), status, message, started)


def announce_refusal(body: str, reason: str) -> None:
    """Publish FAILED for a message that is refused: its only status.

    Args:
        body: The message. Its job id is published if it can be read.
        reason: Why the message is refused.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    job_id = str(request.get("jobId", "")) if isinstance(request, dict) else ""
    _publish(job_id, None, JobStatus.FAILED, reason, None)


def announce_end(flow: Flow[..., Any] | None, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Publish the final status of an image's run, however it ended: a hook of its flow.

    If that fails, the run does not get the label `ANNOUNCED`, and the sensor publishes it later.
    """
    request = flow_run.parameters.get("request")
    fields = request if isinstance(request, dict) else {}
    urls = fields.get("imageUrls") or [""]
    image_url = flow_run.parameters.get("image_url")
    announced = True
    if image_url is not None or len(urls) == 1:  # otherwise each image has a run of its own
        job_id = str(fields.get("jobId", ""))
        image_id = image_id_of(job_id, image_url or urls[0])
        message = state.message or state.name or "no reason is known"
        started = flow_run.expected_start_time
        announced = _publish(job_id, image_id, status_of(state), message, started)
    _label(flow_run.id, announced=announced)


def status_of(state: State[Any] | None) -> JobStatus:
    """The status of a job whose image run is in a final state."""
    if state is None:
        return JobStatus.FAILED
    if state.name == PARTIAL:  # of any type: it was COMPLETED in Swath 0.2
        return JobStatus.PARTIAL
    return JobStatus.SUCCESS if state.is_completed() else JobStatus.FAILED


def _label(run_id: UUID, *, announced: bool) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run_id, {ANNOUNCED: announced})


def _publish(
    job_id: str, image_id: str | None, status: JobStatus, message: str, started: datetime | None
) -> bool:
    """Publish a status; returns whether SNS took it, or no topic is set."""
    seconds = None if started is None else (datetime.now(UTC) - started).total_seconds()
    return publish_status(
        settings().status_topic_arn,
        Status(status, job_id, message, image_id=image_id, processing_duration=seconds),
    )
