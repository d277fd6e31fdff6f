"""Status messages on the operator's SNS topic: STARTED, IN_PROGRESS, then exactly one end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.runtime import flow_run as this_flow_run

from tasks.request import Request
from tasks.settings import settings
from tasks.status import JobStatus, Status, publish_status


def announce(request: Request, image_url: str, status: JobStatus, message: str) -> None:
    """Say where this image's run stands."""
    started = this_flow_run.get_scheduled_start_time()
    _publish(request.job_id, request.image_id(image_url), status, message, started)


def announce_refusal(body: str, reason: str) -> None:
    """The only word on a message that cannot be honoured."""
    try:
        request = json.loads(body)
    except ValueError:
        request = None
    _publish(_job_id(request), None, JobStatus.FAILED, reason, None)


def announce_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """The last word on a run that failed, crashed or was cancelled, whatever it was doing."""
    request = flow_run.parameters.get("request")
    job_id = _job_id(request)
    image_url = flow_run.parameters.get("image_url") or _only_image(request)
    message = state.message or state.name or "no reason is known"
    _publish(job_id, f"{job_id}:{image_url}", JobStatus.FAILED, message, flow_run.start_time)


def _job_id(request: object) -> str:
    return str(request.get("jobId", "")) if isinstance(request, dict) else ""


def _only_image(request: object) -> str:
    urls = request.get("imageUrls") if isinstance(request, dict) else None
    return str(urls[0]) if isinstance(urls, list) and urls else ""


def _publish(
    job_id: str, image_id: str | None, status: JobStatus, message: str, started: datetime | None
) -> None:
    seconds = None if started is None else (datetime.now(UTC) - started).total_seconds()
    publish_status(
        settings().status_topic_arn,
        Status(status, job_id, message, image_id=image_id, processing_duration=seconds),
    )
