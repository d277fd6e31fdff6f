"""Status messages on the operator's SNS topic: STARTED, IN_PROGRESS, then exactly one end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.runtime import flow_run as this_flow_run

from tasks.reporting.status import JobStatus, Status, publish_status
from tasks.request import Request
from tasks.settings import settings

ANNOUNCED = "swath.announced"
"""Label of a run whose end was told."""


def announce_start(request: Request, image_url: str) -> None:
    """Say that an image's run has begun; again, where people had Prefect run it again."""
    if this_flow_run.run_count > 1:
        _mark(UUID(this_flow_run.id), told=False)
    announce(request, image_url, JobStatus.STARTED, "the image is being opened")


def announce(request: Request, image_url: str, status: JobStatus, message: str) -> None:
    """Say where this image's run stands."""
    started = this_flow_run.get_scheduled_start_time()
    _publish(request.job_id, request.image_id(image_url), status, message, started)


def announce_refusal(body: str, reason: str) -> None:
    """The only word on a message that cannot be honoured."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    job_id = str(request.get("jobId", "")) if isinstance(request, dict) else ""
    _publish(job_id, None, JobStatus.FAILED, reason, None)


def announce_end(flow: Flow[..., Any] | None, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """The last word on an image's run, however it ended: a hook of its flow.

    A run whose end could not be told stays without the label, and the sensor tries again.
    """
    request = flow_run.parameters.get("request")
    fields = request if isinstance(request, dict) else {}
    urls = fields.get("imageUrls") or [""]
    image_url = flow_run.parameters.get("image_url")
    told = True
    if image_url is not None or len(urls) == 1:  # else each image has a run, and word, of its own
        job_id = str(fields.get("jobId", ""))
        image_id = f"{job_id}:{image_url or urls[0]}"
        message = state.message or state.name or "no reason is known"
        told = _publish(job_id, image_id, status_of(state), message, flow_run.expected_start_time)
    _mark(flow_run.id, told=told)


def status_of(state: State[Any] | None) -> JobStatus:
    """The job's status that the last state of an image's run stands for."""
    if state is None or not state.is_completed():
        return JobStatus.FAILED
    return JobStatus.SUCCESS if state.name == "Completed" else JobStatus.PARTIAL


def _mark(run_id: UUID, *, told: bool) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run_id, {ANNOUNCED: told})


def _publish(
    job_id: str, image_id: str | None, status: JobStatus, message: str, started: datetime | None
) -> bool:
    seconds = None if started is None else (datetime.now(UTC) - started).total_seconds()
    return publish_status(
        settings().status_topic_arn,
        Status(status, job_id, message, image_id=image_id, processing_duration=seconds),
    )
