"""Status messages arrive on a topic in OSML's form; a topic that cannot be used fails no run."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import uuid4

import pytest

from tasks.aws.clients import client
from tasks.reporting.status import JobStatus, Status, image_id_of, publish_status


class Topic:
    """A topic with a queue that hears all of it."""

    def __init__(self) -> None:
        name = f"status-{uuid4().hex[:8]}"
        self.arn = client("sns").create_topic(Name=name)["TopicArn"]
        self.queue = client("sqs").create_queue(QueueName=name)["QueueUrl"]
        queue_arn = client("sqs").get_queue_attributes(
            QueueUrl=self.queue, AttributeNames=["QueueArn"]
        )["Attributes"]["QueueArn"]
        client("sns").subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=queue_arn)

    def heard(self) -> tuple[str, dict[str, str]]:
        answer = client("sqs").receive_message(QueueUrl=self.queue, WaitTimeSeconds=5)
        (message,) = answer["Messages"]
        client("sqs").delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        note: dict[str, Any] = json.loads(message["Body"])
        attributes = note.get("MessageAttributes", {})
        assert {value["Type"] for value in attributes.values()} <= {"String"}
        return note["Message"], {name: value["Value"] for name, value in attributes.items()}


@pytest.fixture
def topic(aws: str) -> Topic:
    return Topic()


def test_a_status_has_osml_body_and_attributes(topic: Topic) -> None:
    image_id = "job-1:s3://images/x.tif"
    assert image_id_of("job-1", "s3://images/x.tif") == image_id
    publish_status(
        topic.arn,
        Status(JobStatus.PARTIAL, "job-1", "3 features", image_id, processing_duration=12.9),
    )
    assert topic.heard() == (
        "StatusMonitor update: PARTIAL job-1: 3 features",
        {
            "status": "PARTIAL",
            "job_id": "job-1",
            "image_status": "PARTIAL",
            "image_id": image_id,
            "processing_duration": "12",
        },
    )


def test_a_status_that_is_too_long_is_truncated_and_arrives(topic: Topic) -> None:
    status = Status(JobStatus.FAILED, "j" * 9000, "ü" * 300_000, "i" * 9000)
    publish_status(topic.arn, status)
    body, attributes = topic.heard()
    assert body.endswith("ü…")
    assert attributes["image_id"].endswith("i…")
    assert len(attributes["image_id"]) < 9000


def test_characters_that_sns_refuses_are_replaced(topic: Topic) -> None:
    publish_status(topic.arn, Status(JobStatus.FAILED, "", "bad \x00\x1b byte\tand 🛰"))
    body, attributes = topic.heard()
    assert body == "StatusMonitor update: FAILED : bad \ufffd\ufffd byte\tand 🛰"
    assert attributes == {"status": "FAILED", "image_status": "FAILED"}


def test_a_topic_that_is_not_there_is_a_warning(aws: str, caplog: pytest.LogCaptureFixture) -> None:
    arn = "arn:aws:sns:us-east-1:000000000000:absent"
    with caplog.at_level(logging.WARNING):
        publish_status(arn, Status(JobStatus.STARTED, "job-1", "go"))
    assert f"STARTED of job job-1 was not published to {arn}" in caplog.text


def test_without_a_topic_no_status_is_published(caplog: pytest.LogCaptureFixture) -> None:
    publish_status(None, Status(JobStatus.STARTED, "job-1", "go"))
    assert caplog.text == ""
