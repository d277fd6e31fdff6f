"""Features as records of a Kinesis stream, each a FeatureCollection of one feature, as in OSML.

All records of a job have one partition key, so they go to one shard, which keeps their order. A
call may be accepted in part. Then the first refused record is put again with all that follow it, so
that none comes after the last copy of a later one.
"""

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
from tasks.settings import settings
from tasks.storage.patience import patiently

# The limits of PutRecords.
_MAX_RECORD_BYTES = 1 << 20  # of one record with its partition key, unless the stream allows more
_MAX_CALL_BYTES = 5 << 20  # of all records of a call; a longer record has a call of its own
_MAX_CALL_RECORDS = 500
_MAX_KEY_LENGTH = 256  # characters of a partition key

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two calls of which records are refused


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
        PublishError: The stream cannot be written, refused records for `SWATH_STORAGE_PATIENCE`, or
            a feature is too long for a record.
    """
    key = metadata.provenance.job[:_MAX_KEY_LENGTH]
    max_records = min(batch_size or _MAX_CALL_RECORDS, _MAX_CALL_RECORDS)
    records: list[dict[str, Any]] = []
    size = 0
    for line in (line for batch in batches for line in lines(batch, metadata)):
        data = OPENING + line + CLOSING
        length = _length(stream, data, key)
        if records and (len(records) == max_records or size + length > _MAX_CALL_BYTES):
            _put(stream, records)
            records, size = [], 0
        records.append({"Data": data, "PartitionKey": key})
        size += length
    _put(stream, records)


def _length(stream: str, data: bytes, key: str) -> int:
    """Bytes of a record with its partition key, as Kinesis counts them."""
    length = len(data) + len(key.encode())
    if length > _MAX_RECORD_BYTES and length > (limit := _max_record_bytes(stream)):
        raise PublishError(
            f"A feature of {length} bytes is too long for a record of {limit} bytes, the most that "
            f"Kinesis stream {stream} takes: raise that (`aws kinesis update-max-record-size`, up "
            "to 10 MiB), have the model return simpler outlines, or publish to S3."
        )
    return length


def _max_record_bytes(stream: str) -> int:
    """The longest record that a stream takes, 1 MiB if it does not tell."""
    try:
        told = client("kinesis").describe_stream_summary(StreamName=stream)
    except (ClientError, BotoCoreError):
        return _MAX_RECORD_BYTES
    kibibytes = told["StreamDescriptionSummary"].get("MaxRecordSizeInKiB")
    return kibibytes << 10 if kibibytes else _MAX_RECORD_BYTES


def _put(stream: str, records: list[dict[str, Any]]) -> None:
    """Put records in their order, as long as some of them are accepted."""
    patience, pause = settings().storage_patience, _FIRST_PAUSE
    end = time.monotonic() + patience
    while records:
        reasons = _refusals(stream, records)
        first = next((number for number, reason in enumerate(reasons) if reason), len(records))
        reason, records = "".join(reasons[first : first + 1]), records[first:]
        if first:
            pause, end = _FIRST_PAUSE, time.monotonic() + patience
        elif time.monotonic() + pause > end:
            raise PublishError(
                f"Kinesis stream {stream} refused {len(records)} records for {patience:g} s "
                f"({reason}): give it more shards or the on-demand mode, or wait longer "
                "(SWATH_STORAGE_PATIENCE)."
            )
        if records:
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)


def _refusals(stream: str, records: list[dict[str, Any]]) -> list[str]:
    """Put the records of one call; returns why each was refused, an empty text if it was not."""
    try:
        response = patiently(client("kinesis").put_records, StreamName=stream, Records=records)
    except (ClientError, BotoCoreError) as error:
        raise PublishError(
            f"Cannot write to Kinesis stream {stream}: {error}. "
            "Check that it exists and that kinesis:PutRecords is granted."
        ) from error
    return [result.get("ErrorCode") or "" for result in response["Records"]]
