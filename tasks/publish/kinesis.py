"""Features as records of a Kinesis stream, each a FeatureCollection of one feature, as in OSML."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import PublishError
from tasks.publish.feature_batches import FeatureBatch
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.geojson import CLOSING, OPENING, lines

# The limits of PutRecords.
_MAX_RECORD_BYTES = 1 << 20  # of one record with its partition key
_MAX_CALL_BYTES = 5 << 20  # of all records of a call
_MAX_CALL_RECORDS = 500
_MAX_KEY_LENGTH = 256  # characters of a partition key

_ATTEMPTS = 8
_FIRST_WAIT = 0.1  # seconds; doubles with each attempt


def stream_status(stream: str) -> str:
    """The status of a stream, such as ACTIVE or CREATING.

    Raises:
        ClientError: The stream does not exist, or this process may not describe it.
    """
    description = client("kinesis").describe_stream(StreamName=stream)["StreamDescription"]
    return str(description["StreamStatus"])


def write_kinesis(
    stream: str,
    batches: Iterable[FeatureBatch],
    metadata: FeatureMetadata,
    batch_size: int | None = None,
) -> None:
    """Put features on a stream, each as a FeatureCollection of its own under the job's key.

    Delivery is at least once: a repeated run puts its features again, with the same ids.

    Args:
        stream: Name of the stream.
        batches: The features.
        metadata: What all features have in common.
        batch_size: Most records in a call, if fewer than the 500 that Kinesis accepts.

    Raises:
        PublishError: The stream cannot be written, refused a record at every attempt, or a feature
            is too long for a record.
    """
    key = metadata.provenance.job[:_MAX_KEY_LENGTH]
    max_records = min(batch_size or _MAX_CALL_RECORDS, _MAX_CALL_RECORDS)
    records: list[dict[str, Any]] = []
    size = 0
    for line in (line for batch in batches for line in lines(batch, metadata)):
        data = OPENING + line + CLOSING
        length = _length(data, key)
        if len(records) == max_records or size + length > _MAX_CALL_BYTES:
            _put(stream, records)
            records, size = [], 0
        records.append({"Data": data, "PartitionKey": key})
        size += length
    if records:
        _put(stream, records)


def _length(data: bytes, key: str) -> int:
    """Bytes of a record with its partition key, as Kinesis counts them."""
    length = len(data) + len(key.encode())
    if length > _MAX_RECORD_BYTES:
        raise PublishError(
            f"A feature of {length} bytes is too long for a Kinesis record of {_MAX_RECORD_BYTES}: "
            "have the model return simpler outlines, or publish to S3."
        )
    return length


def _put(stream: str, records: list[dict[str, Any]]) -> None:
    """Put the records of one call, and retry those that were refused."""
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            response = client("kinesis").put_records(StreamName=stream, Records=records)
        except (ClientError, BotoCoreError) as error:
            raise PublishError(
                f"Cannot write to Kinesis stream {stream}: {error}. "
                "Check that it exists and that kinesis:PutRecords is granted."
            ) from error
        results = list(zip(records, response["Records"], strict=True))
        records = [record for record, result in results if result.get("ErrorCode")]
        if not records:
            return
        reason = next(result["ErrorCode"] for _, result in results if result.get("ErrorCode"))
        time.sleep(_FIRST_WAIT * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - jitter
    raise PublishError(
        f"Kinesis stream {stream} refused {len(records)} records {_ATTEMPTS} times ({reason}): "
        "give it more shards or the on-demand mode."
    )
