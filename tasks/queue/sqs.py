"""The queue of requests on SQS: receive, delete and dead-letter messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tasks.aws.clients import client
from tasks.errors import RequestError

MAX_BATCH = 10  # messages of one receive, by SQS
MAX_ATTRIBUTES = 10  # of a message, by SQS
LONGEST_POLL = 20  # seconds of one receive, by SQS
VISIBILITY = 60  # seconds for which a received message is hidden from other receivers
MOST_LOOKS = 20  # receives in which the dead-letter queue is looked through; not all, if it is full
_LONGEST_REASON = 2000
_SOURCE = "DeadLetterQueueSourceArn"  # attribute of a message that SQS itself moved


@dataclass(frozen=True)
class Message:
    """A received message.

    Attributes:
        id: Its message id, the same at each delivery.
        body: Its text.
        receipt: The receipt handle of this delivery.
        receive_count: How often it was delivered, this time included.
        attributes: Its message attributes, as SQS returns them.
        queue_url: URL of the queue that it was received from: its own, or the dead-letter queue.
    """

    id: str
    body: str
    receipt: str
    receive_count: int
    attributes: dict[str, Any]
    queue_url: str


@dataclass(frozen=True)
class Queue:
    """An SQS queue and the dead-letter queue that its redrive policy names.

    Attributes:
        url: URL of the queue.
        arn: Its ARN.
        dead_letter_url: URL of the dead-letter queue, for messages that are refused.
        max_receive_count: Deliveries of a message after which SQS itself moves it there.
    """

    url: str
    arn: str
    dead_letter_url: str
    max_receive_count: int

    def receive(self, limit: int, wait: float) -> list[Message]:
        """Receive up to `limit` messages as soon as one arrives; none after `wait` seconds."""
        received = _receive(self.url, limit, wait)
        return [_message(each, self.url) for each in received]

    def moved_by_sqs(self) -> list[Message]:
        """Messages on the dead-letter queue that SQS itself moved there from this queue.

        That is, after `max_receive_count` deliveries of which none was acknowledged. They are
        hidden from others for `VISIBILITY` seconds; the other messages are visible again.
        """
        moved: list[Message] = []
        others: list[Message] = []
        for _ in range(MOST_LOOKS):
            if not (received := _receive(self.dead_letter_url, MAX_BATCH, 0)):
                break
            for each in received:
                ours = each["Attributes"].get(_SOURCE) == self.arn
                (moved if ours else others).append(_message(each, self.dead_letter_url))
        for message in others:
            self._hide(message, 0)
        return moved

    def acknowledge(self, message: Message) -> None:
        """Delete a message from where it was received; its runs exist by then."""
        client("sqs").delete_message(QueueUrl=message.queue_url, ReceiptHandle=message.receipt)

    def extend(self, message: Message) -> None:
        """Keep a message hidden from other receivers for another `VISIBILITY` seconds."""
        self._hide(message, VISIBILITY)

    def _hide(self, message: Message, seconds: int) -> None:
        client("sqs").change_message_visibility(
            QueueUrl=message.queue_url,
            ReceiptHandle=message.receipt,
            VisibilityTimeout=seconds,
        )

    def dead_letter(self, message: Message, reason: str) -> None:
        """Move a message to the dead-letter queue, with the reason as an attribute."""
        added = {"reason": {"DataType": "String", "StringValue": _printable(reason)}}
        attributes = dict(list(message.attributes.items())[: MAX_ATTRIBUTES - 1]) | added
        try:
            self._send_to_dead_letters(message, attributes)
        except ClientError:  # the message and its attributes are too large for the queue
            self._send_to_dead_letters(message, {})
        self.acknowledge(message)

    def _send_to_dead_letters(self, message: Message, attributes: dict[str, Any]) -> None:
        client("sqs").send_message(
            QueueUrl=self.dead_letter_url,
            MessageBody=message.body,
            MessageAttributes=attributes,
        )


def _receive(url: str, limit: int, wait: float) -> list[dict[str, Any]]:
    """Receive up to `limit` messages as soon as one arrives; none after `wait` seconds."""
    answer = client("sqs").receive_message(
        QueueUrl=url,
        MaxNumberOfMessages=min(limit, MAX_BATCH),
        WaitTimeSeconds=int(min(max(wait, 0), LONGEST_POLL)),
        VisibilityTimeout=VISIBILITY,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["ApproximateReceiveCount", _SOURCE],
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def _message(received: dict[str, Any], queue_url: str) -> Message:
    return Message(
        id=received["MessageId"],
        body=received["Body"],
        receipt=received["ReceiptHandle"],
        receive_count=int(received["Attributes"]["ApproximateReceiveCount"]),
        attributes=received.get("MessageAttributes", {}),
        queue_url=queue_url,
    )


def open_queue(url: str | None, setting: str = "SWATH_QUEUE_URL") -> Queue:
    """The queue that the operator set, with its dead-letter queue.

    Args:
        url: The value of the setting.
        setting: Name of the setting.

    Raises:
        RequestError: It is not set, the queue cannot be read, or it has no dead-letter queue:
            without one, a refused message would be lost, or delivered again without an end.
    """
    if not url:
        raise RequestError(f"{setting}: it is not set; give the URL of the queue to drain.")
    try:
        return _open(url, setting)
    except ClientError as error:
        raise RequestError(
            f"{setting}: {url} and its dead-letter queue cannot be opened ({error}); "
            "check their names and sqs:GetQueueAttributes, sqs:GetQueueUrl."
        ) from error


def _open(url: str, setting: str) -> Queue:
    attributes = client("sqs").get_queue_attributes(
        QueueUrl=url, AttributeNames=["QueueArn", "RedrivePolicy"]
    )["Attributes"]
    policy = attributes.get("RedrivePolicy")
    if not policy:
        raise RequestError(
            f"{setting}: {url} has no redrive policy; give the queue a dead-letter queue."
        )
    redrive = json.loads(policy)
    account, name = redrive["deadLetterTargetArn"].split(":")[-2:]
    dead_letters = client("sqs").get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
    return Queue(
        url=url,
        arn=attributes["QueueArn"],
        dead_letter_url=dead_letters["QueueUrl"],
        max_receive_count=int(redrive["maxReceiveCount"]),
    )


def send(url: str, body: str) -> str:
    """Send a request to a queue; returns the message's id."""
    return str(client("sqs").send_message(QueueUrl=url, MessageBody=body)["MessageId"])


def _printable(reason: str) -> str:
    """A reason as SQS allows it: no control characters, not empty, not too long."""
    text = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in reason)
    return text[:_LONGEST_REASON] or "refused"
