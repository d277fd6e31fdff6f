"""The sensor between a queue and Prefect: what happens to a message, whatever Prefect answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest
from botocore.exceptions import ClientError
from prefect import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolCreate
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelled

from flows.image import image
from flows.image_runs import ImageRuns
from tasks.aws.clients import client, renew_credentials
from tasks.queue.sqs import Queue, send
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tests.faulty_proxy import faulty_proxy, status
from tests.inbox import Inbox, open_inbox, received, sense
from tests.prefect_faults import Fault, page, prefect_answers, refusal

MOST_WAITING = 10  # images that may wait in Prefect in these tests
MANY = 3 * MOST_WAITING


def request(job_id: str, images: int = 1) -> str:
    message = {
        "jobId": job_id,
        "imageUrls": [f"s3://images/{number}.tif" for number in range(images)],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
    }
    return json.dumps(message)


@pytest.fixture
def bucket(aws: str) -> str:
    name = f"images-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def inbox(bucket: str, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """One whose deployment runs one image at a time; no worker starts any."""
    monkeypatch.setenv("SWATH_LOOK_AHEAD", str(MOST_WAITING))
    with open_inbox(bucket, concurrency_limit=1) as inbox:
        yield inbox


def soon_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a message that is left on the queue delivered again after a second."""
    monkeypatch.setattr("tasks.queue.sqs.VISIBILITY", 1)


def creations(answer: Callable[[int], httpx.Response | None]) -> Fault:
    """Faults in the creation of runs of a deployment, by their number from 0."""
    numbers = count()

    def fault(request: httpx.Request) -> httpx.Response | None:
        creates = request.url.path.endswith("/create_flow_run")
        return answer(next(numbers)) if creates else None

    return fault


# All runs at once


def test_a_request_of_more_images_than_may_run_blocks_neither_queue_nor_sensor(
    inbox: Inbox,
) -> None:
    send(inbox.queue_url, request("long", MANY))
    assert inbox.drain() == MANY
    urls = [run.parameters["image_url"] for run in inbox.runs()]
    assert sorted(urls) == sorted(json.loads(request("long", MANY))["imageUrls"])


def test_a_run_is_given_the_fields_of_its_message_and_no_defaults(inbox: Inbox) -> None:
    """So that a tile size that no one gave is that of the model."""
    send(inbox.queue_url, request("one"))
    assert inbox.drain() == 1
    (run,) = inbox.runs()
    assert run.parameters["request"].keys() == json.loads(request("one")).keys()
    assert "imageProcessorTileSize" not in run.parameters["request"]


def test_while_many_runs_wait_messages_stay_on_the_queue(inbox: Inbox) -> None:
    for number in range(MOST_WAITING + 3):
        send(inbox.queue_url, request(f"job-{number}"))
    assert inbox.sense_until(lambda: len(inbox.runs()) >= MOST_WAITING) == MOST_WAITING
    assert sense() == 0
    assert inbox.depth() == (3, 0)
    with get_client(sync_client=True) as prefect:
        for run in inbox.runs():
            prefect.delete_flow_run(run.id)
    assert inbox.drain() == 3


class Killed(BaseException):
    """The end of a process that no code of it can handle."""


def test_a_sensor_killed_during_a_long_request_neither_omits_nor_doubles_an_image(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)

    def kill(request: httpx.Request) -> None:
        creates = request.url.path.endswith("/create_flow_run")
        if creates and json.loads(request.content)["parameters"]["image_url"].endswith("/5.tif"):
            raise Killed

    send(inbox.queue_url, request("long", MOST_WAITING))
    with prefect_answers(kill), pytest.raises(Killed):
        inbox.drain()
    assert len(inbox.runs()) == 5
    assert inbox.left() == 1
    assert inbox.drain() == MOST_WAITING
    urls = [run.parameters["image_url"] for run in inbox.runs()]
    assert len(urls) == len(set(urls)) == MOST_WAITING


def test_a_message_stays_hidden_while_its_runs_are_created(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    extended: list[str] = []
    extend = Queue.extend

    def note(queue: Queue, message: Any) -> None:
        extended.append(message.id)
        extend(queue, message)

    monkeypatch.setattr(Queue, "extend", note)
    monkeypatch.setattr("flows.sensor.VISIBILITY", 0)  # it is always time to extend
    sent = send(inbox.queue_url, request("long", 3))
    assert inbox.drain() == 3
    assert extended == [sent] * 3


def test_a_message_whose_visibility_cannot_be_extended_still_gets_its_runs(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ClientError(
            {"Error": {"Code": "InvalidParameterValue", "Message": "more than 12 hours"}},
            "ChangeMessageVisibility",
        )

    monkeypatch.setattr(Queue, "extend", refuse)
    monkeypatch.setattr("flows.sensor.VISIBILITY", 0)
    send(inbox.queue_url, request("long", 3))
    assert inbox.drain() == 3


# What Prefect answers


@pytest.mark.parametrize(
    "answer",
    [
        page,
        lambda: page(502),
        lambda: httpx.Response(200, json={"id": "not a run"}),
        lambda: refusal(401),
        lambda: refusal(403),
        lambda: refusal(404),
        lambda: refusal(429),
        lambda: refusal(500),
    ],
    ids=["page", "502 page", "no run", "401", "403", "404", "429", "500"],
)
def test_a_good_request_stays_on_the_queue_while_prefect_does_not_create_its_run(
    inbox: Inbox, answer: Callable[[], httpx.Response]
) -> None:
    send(inbox.queue_url, request("good"))
    with prefect_answers(creations(lambda _: answer())):
        assert inbox.sense_until(inbox.received_once) == 0
    assert received(inbox.status_url) == received(inbox.dead_letter_url) == []
    assert inbox.runs() == []


def test_a_message_left_on_the_queue_gets_its_runs_once_prefect_answers(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)
    send(inbox.queue_url, request("good"))
    with prefect_answers(creations(lambda number: page() if number == 0 else None)):
        assert inbox.drain() == 1
    assert received(inbox.status_url) == received(inbox.dead_letter_url) == []


def test_a_message_that_prefect_never_accepts_is_dead_lettered_after_its_last_delivery(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)
    send(inbox.queue_url, request("unlucky"))
    with prefect_answers(creations(lambda _: refusal(500))):
        assert inbox.drain() == 0
    (aside,) = received(inbox.dead_letter_url)
    assert aside["reason"].startswith("it was tried 3 times: ")
    assert [status["status"] for status in received(inbox.status_url)] == [JobStatus.FAILED]


def created_without_an_answer(request: httpx.Request) -> httpx.Response | None:
    """Have Prefect create each run, but its answer be lost."""
    headers = {"Content-Type": "application/json", "X-Forwarded": "by this function"}
    if not request.url.path.endswith("/create_flow_run") or "X-Forwarded" in request.headers:
        return None
    post = httpx.Request("POST", request.url, content=request.content, headers=headers)
    with httpx.Client(timeout=120) as server:
        server.send(post).raise_for_status()
    return refusal(504)


def test_a_message_whose_runs_exist_is_not_refused_although_prefect_never_said_so(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)
    send(inbox.queue_url, request("lucky"))
    with prefect_answers(created_without_an_answer):
        inbox.drain()
    assert len(inbox.runs()) == 1
    assert received(inbox.dead_letter_url) == received(inbox.status_url) == []


def test_only_the_images_without_a_run_are_refused(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)
    send(inbox.queue_url, request("half", 2))

    def fault(request: httpx.Request) -> httpx.Response | None:
        creates = request.url.path.endswith("/create_flow_run")
        second = creates and json.loads(request.content)["parameters"]["image_url"].endswith(
            "1.tif"
        )
        return refusal(500) if second else None

    with prefect_answers(fault):
        inbox.drain()
    assert len(inbox.runs()) == 1
    (told,) = received(inbox.status_url)
    assert (told["status"], told["image_id"]) == (JobStatus.FAILED, "half:s3://images/1.tif")
    (aside,) = received(inbox.dead_letter_url)
    assert aside["reason"].startswith("1 of 2 images have no run: it was tried 3 times: ")


def test_while_prefect_does_not_say_whether_a_run_exists_nothing_is_told(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)
    monkeypatch.setattr("flows.refusals._INTERVAL", 0.0)
    send(inbox.queue_url, request("late"))

    def fault(request: httpx.Request) -> httpx.Response | None:
        lookup = b'"idempotency_key":{"any_"' in request.content.replace(b" ", b"")
        return refusal(500) if lookup or request.url.path.endswith("/create_flow_run") else None

    with prefect_answers(fault):
        inbox.drain()
    assert received(inbox.status_url) == []
    inbox.sense_until(lambda: told(inbox) == [JobStatus.FAILED])
    (aside,) = received(inbox.dead_letter_url)
    assert aside["reason"].startswith("it was delivered 3 times, and no sensor was done with it")


def told(inbox: Inbox) -> list[str]:
    """The statuses so far, which are taken from their queue."""
    return [each["status"] for each in received(inbox.status_url)]


def move(inbox: Inbox, body: str) -> None:
    """Send a message that three sensors receive, each of which is killed."""
    send(inbox.queue_url, body)
    for _ in range(3):
        client("sqs").receive_message(
            QueueUrl=inbox.queue_url, VisibilityTimeout=0, WaitTimeSeconds=5
        )


@pytest.mark.parametrize("body", [request("deadly"), "not json"], ids=["request", "nonsense"])
def test_a_message_that_sqs_itself_moved_is_told_once_and_stays_with_the_reason(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr("flows.refusals._INTERVAL", 0.0)
    client("sqs").send_message(QueueUrl=inbox.dead_letter_url, MessageBody="another's")
    move(inbox, body)
    statuses: list[str] = []

    def has_told() -> bool:
        statuses.extend(told(inbox))
        return bool(statuses)

    assert inbox.sense_until(has_told) == 0
    sense()
    assert statuses + told(inbox) == [JobStatus.FAILED]
    aside = {each["body"]: each.get("reason") for each in received(inbox.dead_letter_url)}
    assert aside.keys() == {body, "another's"}
    assert aside[body]
    assert aside["another's"] is None


def test_a_moved_message_whose_run_exists_is_not_told(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example because its sensors were killed before they deleted it."""
    monkeypatch.setattr("flows.refusals._INTERVAL", 0.0)
    text = request("done")
    move(inbox, text)
    ImageRuns(f"image/{inbox.deployment}").create(Request.parse(text), "s3://images/0.tif", "any")
    sense()
    inbox.sense_until(lambda: not inbox.left())
    sense()
    assert told(inbox) == []
    assert received(inbox.dead_letter_url) == []
    assert len(inbox.runs()) == 1


def test_a_refusal_that_sns_does_not_take_is_told_later(
    aws: str, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon_back(monkeypatch)
    with faulty_proxy(aws) as sns:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", sns.url)
        renew_credentials()
        send(inbox.queue_url, "not json")
        with sns.failing(lambda call: b"Action=Publish" in call.body, status(403), times=1):
            inbox.drain()
    assert told(inbox) == [JobStatus.FAILED]
    assert len(received(inbox.dead_letter_url)) == 1
    monkeypatch.delenv("AWS_ENDPOINT_URL_SNS")
    renew_credentials()


@pytest.mark.parametrize("status", [409, 413, 422])
def test_a_request_that_prefect_does_not_take_as_a_parameter_is_refused_at_once(
    inbox: Inbox, status: int
) -> None:
    send(inbox.queue_url, request("odd"))
    with prefect_answers(creations(lambda _: refusal(status))):
        assert inbox.drain() == 0
    (aside,) = received(inbox.dead_letter_url)
    assert aside["reason"].startswith("message: Prefect refuses it: ")
    assert [each["status"] for each in received(inbox.status_url)] == [JobStatus.FAILED]


def test_a_sensor_takes_no_message_while_prefect_does_not_answer_and_ends_failed(
    inbox: Inbox,
) -> None:
    def fault(request: httpx.Request) -> httpx.Response | None:
        return page() if request.url.path.endswith("/flow_runs/count") else None

    send(inbox.queue_url, request("good"))
    with prefect_answers(fault), pytest.raises(ValueError, match=r"JSON|Expecting value"):
        inbox.sense_until(lambda: False)
    assert inbox.depth() == (1, 0)
    assert inbox.drain() == 1


def test_a_sensor_whose_slot_is_not_granted_at_once_asks_again(inbox: Inbox) -> None:
    failures = count()

    def fault(request: httpx.Request) -> httpx.Response | None:
        grants = request.url.path.endswith("/increment-with-lease")
        return refusal(500) if grants and next(failures) == 0 else None

    send(inbox.queue_url, request("good"))
    with prefect_answers(fault):
        assert sense(40) == 1
    assert next(failures) > 1


# What a worker is given


def handed_out(pool: str) -> int:
    """Runs that Prefect would give a worker of a pool now."""
    with get_client(sync_client=True) as prefect:
        return len(prefect.get_scheduled_flow_runs_for_work_pool(pool))


def test_a_worker_is_given_as_many_runs_as_the_limit_of_the_deployment_allows(
    bucket: str, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sharing.turns.SETTLED", 0.0)  # one model may have all places
    pool = f"pool-{bucket}"
    with get_client(sync_client=True) as prefect:
        prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    with open_inbox(
        bucket, concurrency_limit=2, work_pool_name=pool, work_queue_name="images"
    ) as inbox:
        send(inbox.queue_url, request("long", 5))
        assert inbox.drain() == 5
        assert handed_out(pool) == 2
        for changed, given in (
            (GlobalConcurrencyLimitUpdate(limit=4), 4),
            (GlobalConcurrencyLimitUpdate(active=False), 5),
        ):
            change_limit(inbox.deployment, changed)
            inbox.sense_until(lambda given=given: handed_out(pool) == given)  # type: ignore[misc]


def change_limit(deployment: str, change: GlobalConcurrencyLimitUpdate) -> None:
    with get_client(sync_client=True) as prefect:
        limit = prefect.read_deployment_by_name(f"image/{deployment}").global_concurrency_limit
        assert limit is not None
        prefect.update_global_concurrency_limit(limit.name, change)


def test_the_work_queue_that_all_deployments_share_is_not_limited(
    bucket: str, prefect_api: str
) -> None:
    pool = f"pool-{bucket}"
    with get_client(sync_client=True) as prefect:
        prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        with open_inbox(bucket, concurrency_limit=2, work_pool_name=pool) as inbox:
            send(inbox.queue_url, request("short"))
            assert inbox.drain() == 1
        assert prefect.read_work_queue_by_name("default", pool).concurrency_limit is None


# When the deployment is not as it was


def test_a_deployment_that_was_created_again_is_found_by_its_name(inbox: Inbox) -> None:
    runs = ImageRuns(f"image/{inbox.deployment}")
    assert runs.waiting() == 0
    with get_client(sync_client=True) as prefect:
        prefect.delete_deployment(prefect.read_deployment_by_name(runs.name).id)
    image.to_deployment(inbox.deployment).apply()  # type: ignore[union-attr]
    assert runs.waiting() == 0
    runs.create(Request.parse(request("again")), "s3://images/0.tif", "message")
    assert runs.waiting() == 1


def test_the_end_of_a_run_is_announced_where_the_work_queue_cannot_be_limited(
    bucket: str, prefect_api: str
) -> None:
    def fault(request: httpx.Request) -> httpx.Response | None:
        limits = request.method == "PATCH" and "/work_queues/" in request.url.path
        return refusal(403) if limits else None

    pool = f"pool-{bucket}"
    with get_client(sync_client=True) as prefect:
        prefect.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        with open_inbox(
            bucket, concurrency_limit=2, work_pool_name=pool, work_queue_name="images"
        ) as inbox:
            runs = ImageRuns(f"image/{inbox.deployment}")
            run = runs.create(Request.parse(request("early")), "s3://images/0.tif", "message")
            prefect.set_flow_run_state(run, Cancelled(message="by its user"), force=True)
            with prefect_answers(fault), pytest.raises(PrefectHTTPStatusError, match="403"):
                runs.reconcile()
            (status,) = received(inbox.status_url)
            assert status["status"] == JobStatus.FAILED
