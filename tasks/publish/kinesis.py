"""Features as records of a Kinesis stream, in OSML's form: each a FeatureCollection of one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import PublishError
from tasks.publish.batch import Batch
from tasks.publish.geojson import CLOSING, OPENING, lines
from tasks.publish.provenance import Provenance

_RECORD_BYTES = 1 << 20  # limits of PutRecords: a record with its key,
_CALL_BYTES = 5 << 20  # the records of a call,
_CALL_RECORDS = 500  # and how many they are
_KEY_LENGTH = 256
_ATTEMPTS = 8
_FIRST_WAIT = 0.1  # seconds; doubles with each attempt


def state(stream: str) -> str:
    """The status of a stream: ACTIVE, CREATING, ….

    Raises:
        ClientError: There is no such stream, or it may not be described.
    """
    description = client("kinesis").describe_stream(StreamName=stream)["StreamDescription"]
    return str(description["StreamStatus"])


def write_kinesis(
    stream: str,
    batches: Iterable[Batch],
    provenance: Provenance,
    batch_size: int | None = None,
) -> None:
    """Put features on a stream, each as a FeatureCollection of its own under the job's key.

    Delivery is at least once: a run that is repeated puts its features again, with the same ids.

    Args:
        stream: Name of the stream.
        batches: The features, some at a time.
        provenance: Where they come from.
        batch_size: Records of a call at most; Kinesis itself takes no more than 500.

    Raises:
        PublishError: A record was refused to the last attempt, or a feature is too long for any.
    """
    key = provenance.job_id[:_KEY_LENGTH]
    most = min(batch_size or _CALL_RECORDS, _CALL_RECORDS)
    records: list[dict[str, Any]] = []
    size = 0
    for line in (line for batch in batches for line in lines(batch, provenance)):
        data = OPENING + line + CLOSING
        length = _length(data, key)
        if len(records) == most or size + length > _CALL_BYTES:
            _put(stream, records)
            records, size = [], 0
        records.append({"Data": data, "PartitionKey": key})
        size += length
    if records:
        _put(stream, records)


def _length(data: bytes, key: str) -> int:
    """Bytes of a record with its key, as Kinesis counts them."""
    length = len(data) + len(key.encode())
    if length > _RECORD_BYTES:
        raise PublishError(
            f"A feature of {length} bytes is too long for a Kinesis record of {_RECORD_BYTES}: "
            "have the model answer simpler outlines, or publish to S3."
        )
    return length


def _put(stream: str, records: list[dict[str, Any]]) -> None:
    """Put the records of one call, and again those that were refused."""
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            answer = client("kinesis").put_records(StreamName=stream, Records=records)
        except (ClientError, BotoCoreError) as error:
            raise PublishError(
                f"Cannot write to Kinesis stream {stream}: {error}. "
                "Check that it is there and that kinesis:PutRecords is granted."
            ) from error
        results = list(zip(records, answer["Records"], strict=True))
        records = [record for record, result in results if result.get("ErrorCode")]
        if not records:
            return
        reason = next(result["ErrorCode"] for _, result in results if result.get("ErrorCode"))
        time.sleep(_FIRST_WAIT * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - a jitter
    raise PublishError(
        f"Kinesis stream {stream} refused {len(records)} records {_ATTEMPTS} times ({reason}): "
        "give it more shards or the on-demand mode."
    )
