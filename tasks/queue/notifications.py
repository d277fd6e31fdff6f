"""Notifications of S3, as they arrive on SQS: from S3 itself, through SNS, or from EventBridge.

The formats are in the S3 user guide: "Event message structure" (notification-content-structure)
and "EventBridge event message structure" (ev-events). Only fields about the object are read.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import unquote_plus

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from pydantic.alias_generators import to_camel

from tasks.errors import RequestError
from tasks.queue.arrivals import Arrival
from tasks.request.strict_json import parse_object
from tasks.request.validation_errors import problem_lines

_UNVERSIONED = (None, "", "null")  # S3 sends "null" for a bucket with versioning suspended


def _decoded(key: str) -> str:
    """The decoded key: S3 encodes it as HTML forms do, with + for a space."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(
            "is not a URL-encoded key in UTF-8; send S3's notification as it is"
        ) from None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class _Bucket(_Part):
    name: str


class _Object(_Part):
    key: Annotated[str, AfterValidator(_decoded)]
    size: NonNegativeInt | None = None
    e_tag: str = ""
    version_id: str | None = None
    sequencer: str = ""


class _Entity(_Part):
    bucket: _Bucket
    object: _Object


class _Record(_Part):
    event_source: Literal["aws:s3"]
    event_name: str
    s3: _Entity

    def arrival(self) -> Arrival:
        object_ = self.s3.object
        return Arrival(
            event=self.event_name,
            created=self.event_name.startswith("ObjectCreated:"),
            bucket=self.s3.bucket.name,
            key=object_.key,
            size=object_.size,
            version=_version(object_.version_id, object_.e_tag, object_.sequencer),
        )


class _Notification(_Part):
    records: tuple[_Record, ...] = Field(alias="Records")

    def arrivals(self) -> list[Arrival]:
        return [record.arrival() for record in self.records]


class _EventObject(_Part):
    key: str  # EventBridge does not encode it
    size: NonNegativeInt | None = None
    etag: str = ""
    version_id: str | None = Field(None, alias="version-id")
    sequencer: str = ""


class _Detail(_Part):
    bucket: _Bucket
    object: _EventObject


class _Event(_Part):
    detail_type: str = Field(alias="detail-type")
    detail: _Detail

    def arrivals(self) -> list[Arrival]:
        object_ = self.detail.object
        arrival = Arrival(
            event=self.detail_type,
            created=self.detail_type == "Object Created",
            bucket=self.detail.bucket.name,
            key=object_.key,
            size=object_.size,
            version=_version(object_.version_id, object_.etag, object_.sequencer),
        )
        return [arrival]


def read_arrivals(body: str) -> list[Arrival] | None:
    """The objects that an S3 notification is about.

    Args:
        body: The body of any message on the queue.

    Returns:
        None for a message that is not an S3 notification; an empty list for one without an object,
        such as the `s3:TestEvent` that S3 sends when notifications are configured.

    Raises:
        RequestError: It is an S3 notification with an invalid field.
    """
    try:
        message = parse_object(body)
    except RequestError:
        return None
    inner = message.get("Message")
    if message.get("Type") == "Notification" and isinstance(inner, str):  # wrapped by SNS
        return read_arrivals(inner)
    if message.get("Event") == "s3:TestEvent":
        return []
    if "Records" in message:
        return _read(_Notification, message)
    if message.get("source") != "aws.s3":
        return None
    # events of CloudTrail have this source too, but are about API calls, not objects
    about_object = str(message.get("detail-type")).startswith("Object ")
    return _read(_Event, message) if about_object else []


def _read(kind: type[_Notification | _Event], message: dict[str, Any]) -> list[Arrival]:
    try:
        return kind.model_validate(message).arrivals()
    except ValidationError as error:
        raise RequestError("\n".join(problem_lines(error, kind))) from None


def _version(version_id: str | None, etag: str, sequencer: str) -> str:
    """What distinguishes uploads of one key: S3's version id, or the ETag and the sequencer."""
    return f"{etag} {sequencer}" if version_id in _UNVERSIONED else str(version_id)
