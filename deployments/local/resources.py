"""The queues, the topic and the buckets of one machine, in an emulated AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

IMAGE_BUCKET = "swath-images"
RESULT_BUCKET = "swath-results"
WORK_BUCKET = "swath-work"

_MAX_RECEIVES = 3  # then a message goes to the dead-letter queue


@dataclass(frozen=True)
class Resources:
    """The addresses of the resources.

    Attributes:
        queue_url: SQS queue of requests.
        dead_letter_url: SQS dead-letter queue of requests.
        status_topic_arn: SNS topic of status messages.
        status_queue_url: SQS queue that receives every status message, raw.
    """

    queue_url: str
    dead_letter_url: str
    status_topic_arn: str
    status_queue_url: str


def create_resources(client: Callable[[str], AbstractContextManager[Any]]) -> Resources:
    """Create the queues, the topic and the buckets that do not exist yet.

    Args:
        client: Opens a boto3 client of a service of an emulator that answers, such as `sqs`.
    """
    from tasks.queue.sqs import VISIBILITY  # slow to import: done here, while the servers start

    with client("s3") as s3:
        for bucket in (IMAGE_BUCKET, RESULT_BUCKET, WORK_BUCKET):
            s3.create_bucket(Bucket=bucket)  # in us-east-1, no error if the bucket exists
    with client("sqs") as sqs, client("sns") as sns:
        dead_letter_url = _queue(sqs, "swath-dlq")
        queue_url = _queue(
            sqs,
            "swath",
            VisibilityTimeout=str(VISIBILITY),
            RedrivePolicy=json.dumps(
                {
                    "deadLetterTargetArn": _arn(sqs, dead_letter_url),
                    "maxReceiveCount": _MAX_RECEIVES,
                }
            ),
        )
        status_queue_url = _queue(sqs, "swath-status")
        topic_arn = sns.create_topic(Name="swath-status")["TopicArn"]
        sns.subscribe(
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=_arn(sqs, status_queue_url),
            Attributes={"RawMessageDelivery": "true"},
        )
    return Resources(queue_url, dead_letter_url, topic_arn, status_queue_url)


def _queue(sqs: Any, name: str, **attributes: str) -> str:  # noqa: ANN401 - a boto3 client
    url: str = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def _arn(sqs: Any, queue_url: str) -> str:  # noqa: ANN401 - a boto3 client
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    arn: str = answer["Attributes"]["QueueArn"]
    return arn
