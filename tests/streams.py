"""Kinesis streams of the emulated AWS."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tasks.aws.clients import client


def make_stream() -> str:
    """Create a stream with one shard; returns its name."""
    name = f"features-{uuid4().hex[:8]}"
    client("kinesis").create_stream(StreamName=name, ShardCount=1)
    client("kinesis").get_waiter("stream_exists").wait(
        StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    return name


def records(stream: str) -> list[dict[str, Any]]:
    """All records on a stream."""
    kinesis = client("kinesis")
    shard = kinesis.list_shards(StreamName=stream)["Shards"][0]["ShardId"]
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found: list[dict[str, Any]] = []
    while page := kinesis.get_records(ShardIterator=iterator, Limit=1000):
        if not page["Records"]:
            return found
        found += page["Records"]
        iterator = page["NextShardIterator"]
    return found
