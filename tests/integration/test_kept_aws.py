"""The emulated AWS of a stack keeps what it has accepted, also when it is killed at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from deployments.local.aws import EmbeddedAws, start_aws, wait_for_aws
from deployments.local.loopback import free_port
from deployments.local.processes import Processes
from deployments.local.resources import IMAGE_BUCKET, create_resources


@contextmanager
def emulator(folder: Path, port: int) -> Iterator[EmbeddedAws]:
    """An emulator that is killed -9 at the end."""
    with Processes() as processes:
        aws = start_aws(processes, folder, port=port, keep=True)
        wait_for_aws(aws, timeout=300)
        yield aws
        for program in psutil.Process(aws.process.pid).children():
            program.kill()


def test_messages_objects_and_subscriptions_outlive_a_kill(tmp_path: Path) -> None:
    port, body = free_port(), os.urandom(3_000_000)
    with emulator(tmp_path, port) as aws, aws.client("s3") as s3, aws.client("sqs") as sqs:
        before = create_resources(aws.client)
        s3.put_object(Bucket=IMAGE_BUCKET, Key="a/b.tif", Body=body, Metadata={"by": "me"})
        s3.put_object(Bucket=IMAGE_BUCKET, Key="empty", Body=b"")
        etag = s3.head_object(Bucket=IMAGE_BUCKET, Key="a/b.tif")["ETag"]
        sqs.send_message(QueueUrl=before.queue_url, MessageBody="deleted")
        (message,) = sqs.receive_message(QueueUrl=before.queue_url)["Messages"]
        sqs.delete_message(QueueUrl=before.queue_url, ReceiptHandle=message["ReceiptHandle"])
        sqs.send_message(QueueUrl=before.queue_url, MessageBody="kept")
    with emulator(tmp_path, port) as aws, aws.client("s3") as s3, aws.client("sqs") as sqs:
        assert create_resources(aws.client) == before
        found = s3.get_object(Bucket=IMAGE_BUCKET, Key="a/b.tif")
        assert (found["ETag"], found["Metadata"]) == (etag, {"by": "me"})
        assert found["Body"].read() == body
        part = s3.get_object(Bucket=IMAGE_BUCKET, Key="a/b.tif", Range="bytes=1000000-1999999")
        assert part["Body"].read() == body[1_000_000:2_000_000]
        assert s3.get_object(Bucket=IMAGE_BUCKET, Key="empty")["Body"].read() == b""
        (message,) = sqs.receive_message(QueueUrl=before.queue_url, WaitTimeSeconds=5)["Messages"]
        assert message["Body"] == "kept"
        with aws.client("sns") as sns:
            sns.publish(TopicArn=before.status_topic_arn, Message="told")
        told = sqs.receive_message(QueueUrl=before.status_queue_url, WaitTimeSeconds=5)
        assert [each["Body"] for each in told["Messages"]] == ["told"]


def test_a_message_that_was_not_handled_in_time_counts_its_deliveries_over_a_kill(
    tmp_path: Path,
) -> None:
    port = free_port()
    with emulator(tmp_path, port) as aws, aws.client("sqs") as sqs:
        url = sqs.create_queue(QueueName="q", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"jobId": "job"}))
        sqs.receive_message(QueueUrl=url)
    with emulator(tmp_path, port) as aws, aws.client("sqs") as sqs:
        (message,) = sqs.receive_message(
            QueueUrl=url, WaitTimeSeconds=5, MessageSystemAttributeNames=["ApproximateReceiveCount"]
        )["Messages"]
        assert message["Attributes"]["ApproximateReceiveCount"] == "2"


def test_what_was_kept_is_found_on_another_port(tmp_path: Path) -> None:
    with emulator(tmp_path, free_port()) as aws, aws.client("sqs") as sqs:
        before = create_resources(aws.client)
        sqs.send_message(QueueUrl=before.queue_url, MessageBody=f"call {before.queue_url}")
    with emulator(tmp_path, free_port()) as aws, aws.client("sqs") as sqs:
        after = create_resources(aws.client)
        assert after.queue_url == f"{aws.endpoint_url}/000000000000/swath" != before.queue_url
        (message,) = sqs.receive_message(QueueUrl=after.queue_url)["Messages"]
        assert message["Body"] == f"call {before.queue_url}"
        with aws.client("sns") as sns:
            sns.publish(TopicArn=after.status_topic_arn, Message="told")
        assert sqs.receive_message(QueueUrl=after.status_queue_url)["Messages"]
