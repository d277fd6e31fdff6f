"""What S3 sends: to SQS itself, through SNS, or as an event of EventBridge.

The formats are those of the user guide of S3: "Event message structure" (notification-content-
structure) and "EventBridge event message structure" (ev-events). Fields that say nothing of the
object are not read.
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

_UNVERSIONED = (None, "", "null")  # the last is S3's word where versioning is suspended


def _decoded(key: str) -> str:
    """A key as it is; a notification has it as a form does, with + for a space."""
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
        told = self.s3.object
        return Arrival(
            event=self.event_name,
            created=self.event_name.startswith("ObjectCreated:"),
            bucket=self.s3.bucket.name,
            key=told.key,
            size=told.size,
            version=_version(told.version_id, told.e_tag, told.sequencer),
        )


class _Notification(_Part):
    records: tuple[_Record, ...] = Field(alias="Records")

    def arrivals(self) -> list[Arrival]:
        return [record.arrival() for record in self.records]


class _EventObject(_Part):
    key: str  # not encoded here
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
        told = self.detail.object
        arrival = Arrival(
            event=self.detail_type,
            created=self.detail_type == "Object Created",
            bucket=self.detail.bucket.name,
            key=told.key,
            size=told.size,
            version=_version(told.version_id, told.etag, told.sequencer),
        )
        return [arrival]


def read_arrivals(body: str) -> list[Arrival] | None:
    """The objects that a message of S3 tells of.

    Args:
        body: Of any message on the queue.

    Returns:
        None for a message that is not of S3; an empty list for one that tells of no object, such
        as the `s3:TestEvent` that S3 sends when notifications are switched on.

    Raises:
        RequestError: It is of S3 and cannot be read, with the field.
    """
    try:
        message = parse_object(body)
    except RequestError:
        return None
    inner = message.get("Message")
    if message.get("Type") == "Notification" and isinstance(inner, str):  # SNS wrapped it
        return read_arrivals(inner)
    if message.get("Event") == "s3:TestEvent":
        return []
    if "Records" in message:
        return _read(_Notification, message)
    if message.get("source") != "aws.s3":
        return None
    # CloudTrail's are of this source too, and tell of calls in place of objects
    of_an_object = str(message.get("detail-type")).startswith("Object ")
    return _read(_Event, message) if of_an_object else []


def _read(kind: type[_Notification | _Event], message: dict[str, Any]) -> list[Arrival]:
    try:
        return kind.model_validate(message).arrivals()
    except ValidationError as error:
        raise RequestError("\n".join(problem_lines(error, kind))) from None


def _version(version_id: str | None, etag: str, sequencer: str) -> str:
    """What tells an upload from others of its key: S3's version, or content and order."""
    return f"{etag} {sequencer}" if version_id in _UNVERSIONED else str(version_id)
