"""The queue of requests on an emulated SQS: messages received, deleted, extended, dead-lettered."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import pytest

from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.queue.sqs import VISIBILITY, Message, Queue, open_queue, send

BODY = '{"jobId": "été 🛰",\n "imageUrls": [ "s3://a/b.tif" ]}'


def make_queue(name: str, **attributes: str) -> str:
    url: str = client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def attributes_of(url: str, *names: str) -> dict[str, str]:
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
    found: dict[str, str] = answer["Attributes"]
    return found


@pytest.fixture
def queue(aws: str) -> Queue:
    name = f"requests-{uuid4().hex[:8]}"
    dead_letters = make_queue(f"{name}-dlq")
    target = attributes_of(dead_letters, "QueueArn")["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 3})
    return open_queue(make_queue(name, RedrivePolicy=policy))


def one(queue: Queue) -> Message:
    (message,) = queue.receive(10, 5)
    return message


def waiting(url: str) -> tuple[int, int]:
    """Messages to be had, and messages hidden."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    found = attributes_of(url, *names)
    return int(found[names[0]]), int(found[names[1]])


def dead_letter(queue: Queue) -> dict[str, Any]:
    """The message on the dead-letter queue, as SQS gives it."""
    answer = client("sqs").receive_message(
        QueueUrl=queue.dead_letter_url, MessageAttributeNames=["All"], WaitTimeSeconds=5
    )
    (message,) = answer["Messages"]
    found: dict[str, Any] = message
    return found


def test_a_message_arrives_as_it_was_sent(queue: Queue) -> None:
    sent = send(queue.url, BODY)
    message = one(queue)
    assert (message.id, message.body, message.attributes) == (sent, BODY, {})
    assert waiting(queue.url) == (0, 1)


def test_an_acknowledged_message_is_gone(queue: Queue) -> None:
    send(queue.url, BODY)
    queue.acknowledge(one(queue))
    assert waiting(queue.url) == (0, 0)
    assert waiting(queue.dead_letter_url) == (0, 0)


def test_no_more_messages_are_received_than_asked_for(queue: Queue) -> None:
    for number in range(5):
        send(queue.url, str(number))
    assert len(queue.receive(2, 5)) == 2
    assert waiting(queue.url) == (3, 2)


def test_more_messages_may_be_asked_for_than_sqs_returns(queue: Queue) -> None:
    send(queue.url, BODY)
    assert len(queue.receive(100, 60)) == 1


def test_an_empty_queue_is_waited_on_for_the_time_given(queue: Queue) -> None:
    began = time.monotonic()
    assert queue.receive(1, 1.9) == []
    assert time.monotonic() - began > 0.9
    assert queue.receive(1, -3) == []


def test_a_message_that_is_there_is_received(queue: Queue) -> None:
    send(queue.url, BODY)
    assert queue.receive(1, 20)


def test_an_extended_message_stays_hidden(queue: Queue) -> None:
    send(queue.url, BODY)
    message = one(queue)
    client("sqs").change_message_visibility(
        QueueUrl=queue.url, ReceiptHandle=message.receipt, VisibilityTimeout=1
    )
    queue.extend(message)
    time.sleep(1.5)
    assert waiting(queue.url) == (0, 1)
    assert VISIBILITY > 10
    queue.acknowledge(message)
    assert waiting(queue.url) == (0, 0)


def test_a_refused_message_is_dead_lettered_with_the_reason(queue: Queue) -> None:
    send(queue.url, "a neighbour")
    neighbour = one(queue)
    send(queue.url, BODY)
    queue.dead_letter(one(queue), "imageUrls[0]: “b” is not a URL;\n\tgive s3://… 🛰")
    found = dead_letter(queue)
    assert found["Body"] == BODY
    assert found["MessageAttributes"]["reason"] == {
        "DataType": "String",
        "StringValue": "imageUrls[0]: “b” is not a URL;\n\tgive s3://… 🛰",
    }
    assert waiting(queue.url) == (0, 1)
    queue.acknowledge(neighbour)
    assert waiting(queue.url) == (0, 0)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("é" * 5000, "é" * 2000),
        ("", "refused"),
        (
            "bell \x07, half \ud800, none \uffff, escape \x1b[0m",
            "bell ?, half ?, none ?, escape ?[0m",
        ),
    ],
)
def test_any_reason_can_be_sent(queue: Queue, reason: str, told: str) -> None:
    send(queue.url, BODY)
    queue.dead_letter(one(queue), reason)
    found = dead_letter(queue)
    assert found["MessageAttributes"]["reason"]["StringValue"] == told
    assert found["Body"] == BODY


def test_the_producers_attributes_are_kept_in_the_dead_letters(queue: Queue) -> None:
    given = {f"a{n}": {"DataType": "String", "StringValue": f"v{n}"} for n in range(9)}
    given["a9"] = {"DataType": "Number", "StringValue": "7"}
    client("sqs").send_message(QueueUrl=queue.url, MessageBody=BODY, MessageAttributes=given)
    message = one(queue)
    assert len(message.attributes) == 10
    queue.dead_letter(message, "no")
    found = dead_letter(queue)["MessageAttributes"]
    assert found["reason"]["StringValue"] == "no"
    assert len(found) == 10  # SQS takes no more
    assert all(found[name] == given[name] for name in found if name != "reason")


def test_the_dead_letter_queue_is_the_one_of_the_policy(queue: Queue) -> None:
    assert queue.dead_letter_url == f"{queue.url}-dlq"


@pytest.mark.parametrize("url", [None, ""])
def test_a_queue_must_be_set(url: str | None) -> None:
    with pytest.raises(RequestError, match=r"SWATH_QUEUE_URL: it is not set; give the URL"):
        open_queue(url)


def test_a_queue_without_a_dead_letter_queue_is_refused(aws: str) -> None:
    url = make_queue(f"bare-{uuid4().hex[:8]}")
    with pytest.raises(RequestError, match=f"{url} has no redrive policy; give"):
        open_queue(url)


def test_a_queue_that_does_not_exist_is_refused(aws: str) -> None:
    url = f"{aws}/000000000000/absent"
    with pytest.raises(RequestError, match=f"SWATH_QUEUE_URL: {url} .*cannot be opened"):
        open_queue(url)


def test_a_dead_letter_queue_that_does_not_exist_is_reported(queue: Queue) -> None:
    client("sqs").delete_queue(QueueUrl=queue.dead_letter_url)
    with pytest.raises(RequestError, match=r"dead-letter queue cannot be opened"):
        open_queue(queue.url)
