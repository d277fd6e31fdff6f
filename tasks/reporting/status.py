"""Status messages on an SNS topic, with OSML's body and attributes so that its consumers work."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.telemetry.catalogue import IMAGES
from tasks.telemetry.source import SOURCE

logger = logging.getLogger(__name__)

# SNS accepts 256 KiB for the body and the attributes together.
_BODY_BYTES = 128 * 1024
_VALUE_BYTES = 4 * 1024  # of one attribute
_UNSENDABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JobStatus(StrEnum):
    """The status of a job."""

    STARTED = "STARTED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Status:
    """A status message about an image.

    Attributes:
        status: Status of the image's job.
        job_id: Job of the request; empty if it cannot be read from a refused message.
        message: What happened, for a person.
        image_id: As from `image_id_of`, or None for a refused message.
        processing_duration: Seconds since the job was started, or None.
    """

    status: JobStatus
    job_id: str
    message: str
    image_id: str | None = None
    processing_duration: float | None = None

    def body(self) -> str:
        """The text of the message, shortened to what SNS accepts."""
        text = f"StatusMonitor update: {self.status} {self.job_id}: {self.message}"
        return _sendable(text, _BODY_BYTES)

    def attributes(self) -> dict[str, str]:
        """The message attributes, all of type String; those without a value are left out."""
        duration = self.processing_duration
        values = {
            "status": str(self.status),
            "job_id": self.job_id,
            "image_status": str(self.status),
            "image_id": self.image_id,
            "processing_duration": None if duration is None else str(int(duration)),
        }
        return {name: _sendable(value, _VALUE_BYTES) for name, value in values.items() if value}


def image_id_of(job_id: str, image_url: str) -> str:
    """The identifier of an image of a job in status messages, as in OSML."""
    return f"{job_id}:{image_url}"


def publish_status(topic_arn: str | None, status: Status) -> bool:
    """Publish a status message to a topic; a failure is logged, never raised.

    The client retries after throttling, a 5xx answer or a lost connection.

    Args:
        topic_arn: SNS topic, or None if the operator configured none.
        status: The message.

    Returns:
        False if the message could not be published. True if it was, or if there is no topic.
    """
    if topic_arn is None:
        return True
    attributes = {
        name: {"DataType": "String", "StringValue": text}
        for name, text in status.attributes().items()
    }
    try:
        client("sns").publish(
            TopicArn=topic_arn, Message=status.body(), MessageAttributes=attributes
        )
    except (ClientError, BotoCoreError) as error:
        logger.warning(
            "Status %s of job %s was not published to %s: %s. Check that the topic exists and that "
            "sns:Publish is granted.",
            status.status,
            status.job_id,
            topic_arn,
            error,
        )
        return False
    return True


def _sendable(text: str, limit: int) -> str:
    """Text without the characters that SNS refuses, of at most `limit` bytes in UTF-8."""
    encoded = _UNSENDABLE.sub("\ufffd", text).encode()
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode(errors="ignore") + "…"


def record_end(model: str, status: JobStatus) -> None:
    """Count an image that has ended, however it did.

    Args:
        model: Name of the model, as metrics have it.
        status: Its final status.
    """
    SOURCE.add(IMAGES, ModelName=model, Status=status.value)
