"""Status messages on SNS, in OSML's words: a consumer of OSML's topic reads Swath's."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from botocore.exceptions import BotoCoreError, ClientError
from rasterio.windows import Window

from tasks.aws.clients import client

logger = logging.getLogger(__name__)

# SNS takes 256 KiB of body and attributes together; both limits leave it room.
_BODY_BYTES = 128 * 1024
_FAILED_TILES_BYTES = 64 * 1024
_TEXT_BYTES = 4 * 1024  # any other attribute
_UNSENDABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JobStatus(StrEnum):
    """How a job stands."""

    STARTED = "STARTED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESS = "SUCCESS"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Status:
    """One status message, of an image or, with a region's id, of one of its regions.

    Attributes:
        status: How the image, or the region, stands.
        job_id: Job of the request; empty where a refused message names none.
        message: What happened, for a person.
        image_id: OSML's `<job id>:<image URL>`.
        region_id: Region that the message is about, or None.
        processing_duration: Seconds since the work began, or None.
        failed_tiles: Windows, in pixels of the full image, of tiles that failed.
    """

    status: JobStatus
    job_id: str
    message: str
    image_id: str | None = None
    region_id: str | None = None
    processing_duration: float | None = None
    failed_tiles: Sequence[Window] = ()

    def body(self) -> str:
        """The text of the message, cut to what SNS takes."""
        text = f"StatusMonitor update: {self.status} {self.job_id}: {self.message}"
        return _sendable(text, _BODY_BYTES)

    def attributes(self) -> dict[str, str]:
        """The message attributes, all text, without those that have nothing to say."""
        duration = self.processing_duration
        values = {
            "status": str(self.status),
            "job_id": self.job_id,
            "image_status": None if self.region_id else str(self.status),
            "image_id": self.image_id,
            "region_id": self.region_id,
            "processing_duration": None if duration is None else str(int(duration)),
        }
        texts = {name: _sendable(value, _TEXT_BYTES) for name, value in values.items() if value}
        if self.failed_tiles:
            texts["failed_tiles"] = _tiles_text(self.failed_tiles)
        return texts


def publish_status(topic_arn: str | None, status: Status) -> bool:
    """Tell a topic how a job stands; that the topic cannot be told is logged and fails nothing.

    The client tries again after throttling, a 5xx answer or a lost connection.

    Args:
        topic_arn: SNS topic, or None to tell nobody.
        status: What to say.

    Returns:
        Whether it was told, or there is nobody to tell.
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
            "Status %s of job %s did not reach %s: %s. Check the topic and sns:Publish.",
            status.status,
            status.job_id,
            topic_arn,
            error,
        )
        return False
    return True


def _tiles_text(windows: Sequence[Window]) -> str:
    """OSML's text: `[{'1': [[row, column], [width, height]]}, …]`, with a count of the rest."""
    parts: list[str] = []
    used = 0
    for number, window in enumerate(windows, start=1):
        corner = [int(window.row_off), int(window.col_off)]
        part = str({str(number): [corner, [int(window.width), int(window.height)]]})
        used += len(part) + 2
        if used > _FAILED_TILES_BYTES:
            parts.append(str({f"and {len(windows) - number + 1} more": []}))
            break
        parts.append(part)
    return f"[{', '.join(parts)}]"


def _sendable(text: str, limit: int) -> str:
    """Text without the characters that SNS refuses, and with at most `limit` bytes of UTF-8."""
    encoded = _UNSENDABLE.sub("\ufffd", text).encode()
    if len(encoded) <= limit:
        return encoded.decode()
    return encoded[: limit - 3].decode(errors="ignore") + "…"
