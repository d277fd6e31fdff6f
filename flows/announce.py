"""Status messages of image runs on the operator's SNS topic.

Each run publishes STARTED, IN_PROGRESS, and one final status: SUCCESS, PARTIAL or FAILED. A run
that is started again publishes STARTED again.

Who publishes the final status claims that first, by a label of the run which changes as long as the
claimant lives: the run's own hook, or a sensor if no hook did, or if the claimant died.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.runtime import flow_run as this_flow_run
from prefect.types import KeyValueLabels
from pydantic import ValidationError

from flows.alive import beating
from flows.labels import ANNOUNCED, CLAIM, RESTARTS
from flows.run_records import write_labels
from tasks.records.record import CANCELLED, Recorder
from tasks.reporting.status import JobStatus, Status, image_id_of, publish_status, record_end
from tasks.request import ImageProcessor, Request
from tasks.settings import settings
from tasks.telemetry.catalogue import ERRORS, REFUSED_MESSAGES, Operation
from tasks.telemetry.source import SOURCE

PARTIAL = "Partial"
"""Name of the state of an image's run some of whose tiles failed. Its type is FAILED."""

_SETTLE = 3.0  # seconds after which a claim is read again, as another process may have made one
_PROMPT = timedelta(seconds=15)  # after the end of a run, in which only its hook claims it


def announce_start(request: Request, image_url: str) -> None:
    """Publish STARTED for this image's run; a retry of the run in Prefect publishes it again."""
    if this_flow_run.run_count > 1:
        forget_end(UUID(this_flow_run.id))
    announce(request, image_url, JobStatus.STARTED, "the image is being opened")


def forget_end(run_id: UUID) -> None:
    """Have the end of a run that is started again published again; a user's retry has all tries."""
    with get_client(sync_client=True) as client:
        new: KeyValueLabels = {ANNOUNCED: False, CLAIM: ""}
        if client.read_flow_run(run_id).labels.get(ANNOUNCED):
            new[RESTARTS] = 0
        write_labels(client, run_id, new)


def announce(request: Request, image_url: str, status: JobStatus, message: str) -> None:
    """Publish a status of this image's run."""
    started = this_flow_run.get_scheduled_start_time()
    _publish(request.job_id, image_id_of(request.job_id, image_url), status, message, started)


def announce_refusal(body: str, reason: str) -> bool:
    """Publish FAILED for a message that is refused: its only status.

    Args:
        body: The message. Its job id is published if it can be read.
        reason: Why the message is refused.

    Returns:
        Whether SNS took it, or no topic is set.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    job_id = str(request.get("jobId", "")) if isinstance(request, dict) else ""
    SOURCE.add(REFUSED_MESSAGES)
    return _publish(job_id, None, JobStatus.FAILED, reason, None)


def announce_image_refusal(request: Request, image_url: str, reason: str) -> bool:
    """Publish FAILED for one image of a message, the others of which have runs; as above."""
    image_id = image_id_of(request.job_id, image_url)
    model = request.image_processor.metric_name
    SOURCE.add(ERRORS, Operation=Operation.SCHEDULING.value, ModelName=model)
    return _publish(request.job_id, image_id, JobStatus.FAILED, reason, None)


def announce_end(flow: Flow[..., Any] | None, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Publish the final status of an image's run, however it ended: a hook of its flow.

    If that fails, the run does not get the label `ANNOUNCED`, and the sensor publishes it later.
    """
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run.id)
        if run.labels.get(ANNOUNCED) or run.labels.get(CLAIM):
            return
        claim = _claim(client, flow_run)
        ended = run.end_time or datetime.now(UTC)
        # on an overloaded machine a hook may be so late that a sensor claims the end too
        if datetime.now(UTC) - ended < _PROMPT or _holds(client, run, claim):
            _announce_as(claim, client, flow_run, state)


def announce_missed_end(client: SyncPrefectClient, run: FlowRun) -> None:
    """Publish the final status of a run whose own process did not.

    Args:
        client: Client of Prefect.
        run: The run as it was read. If its end was claimed, then by one who died.
    """
    now = client.read_flow_run(run.id)
    if (
        now.state is None
        or now.labels.get(ANNOUNCED)
        or now.labels.get(CLAIM) != run.labels.get(CLAIM)
    ):
        return  # another sensor has announced it since, or is about to
    claim = _claim(client, now)
    if _holds(client, now, claim):
        _announce_as(claim, client, now, now.state)


def _claim(client: SyncPrefectClient, run: FlowRun) -> str:
    """Claim the end of a run; returns what the value of the label begins with."""
    claim = f"{uuid4()} "
    write_labels(client, run.id, {CLAIM: claim})
    return claim


def _holds(client: SyncPrefectClient, run: FlowRun, claim: str) -> bool:
    """Whether the end is still to be published, by who claimed it, once later claims are there."""
    time.sleep(_SETTLE)
    labels = client.read_flow_run(run.id).labels
    return str(labels.get(CLAIM)).startswith(claim) and not labels.get(ANNOUNCED)


def _announce_as(claim: str, client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    """Publish the final status of a run, and label the run if that succeeded."""
    with beating(run.id, CLAIM, who=claim):
        announced = _publish_end(run, state)
    write_labels(client, run.id, {ANNOUNCED: announced, CLAIM: ""})


def _publish_end(run: FlowRun, state: State[Any]) -> bool:
    request = run.parameters.get("request")
    fields = request if isinstance(request, dict) else {}
    urls = fields.get("imageUrls") or [""]
    image_url = run.parameters.get("image_url")
    if image_url is None and len(urls) > 1:
        return True  # each image has a run of its own
    job_id = str(fields.get("jobId", ""))
    image_id = image_id_of(job_id, image_url or urls[0])
    message = state.message or state.name or "no reason is known"
    status = status_of(state)
    record_end(_model(fields), status)
    recorder = Recorder(job_id, image_url or urls[0], str(run.id))
    recorder.ended(CANCELLED if state.is_cancelled() else status, message)
    return _publish(job_id, image_id, status, message, run.expected_start_time)


def _model(request: Mapping[str, Any]) -> str:
    """The model of a request that is a parameter, as metrics name it."""
    try:
        return ImageProcessor.model_validate(request.get("imageProcessor")).metric_name
    except ValidationError:
        return ""


def status_of(state: State[Any] | None) -> JobStatus:
    """The status of a job whose image run is in a final state."""
    if state is None:
        return JobStatus.FAILED
    if state.name == PARTIAL:  # of any type: it was COMPLETED in Swath 0.2
        return JobStatus.PARTIAL
    return JobStatus.SUCCESS if state.is_completed() else JobStatus.FAILED


def _publish(
    job_id: str, image_id: str | None, status: JobStatus, message: str, started: datetime | None
) -> bool:
    """Publish a status; returns whether SNS took it, or no topic is set."""
    seconds = None if started is None else (datetime.now(UTC) - started).total_seconds()
    return publish_status(
        settings().status_topic_arn,
        Status(status, job_id, message, image_id=image_id, processing_duration=seconds),
    )
