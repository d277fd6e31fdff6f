"""What a sensor asks of Prefect for many images: a request for each, and little besides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import httpx
import pytest

from tasks.queue.sqs import Message, Queue, send
from tests.inbox import Inbox, open_inbox, sense
from tests.prefect_faults import prefect_answers

NUMBER = 6  # images
FEW = 12  # requests of a look for free places, at most


class EndedError(BaseException):
    """Ends a sensor that has created all runs, which no code of it can handle."""


def request(name: str, images: int = 1) -> str:
    job_id = f"{name}-{uuid4().hex[:8]}"  # no run of another test serves it
    message = {
        "jobId": job_id,
        "imageUrls": [f"s3://images/{job_id}-{number}.tif" for number in range(images)],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
    }
    return json.dumps(message)


@pytest.fixture
def inbox(aws: str, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """One whose deployment runs one image at a time; no worker starts any."""
    monkeypatch.setattr("flows.image_runs._INTERVAL", 3600.0)  # the first check of runs is the last
    with open_inbox(f"images-{uuid4().hex[:8]}", concurrency_limit=1) as inbox:
        yield inbox


def requests_while_creating(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of a sensor's requests from the creation of the first run to that of the last."""
    seen: list[str] = []
    receive = Queue.receive

    def receive_or_end(queue: Queue, limit: int, wait: float) -> list[Message]:
        if creations(seen) == number:
            raise EndedError
        return receive(queue, limit, wait)

    def record(request: httpx.Request) -> httpx.Response | None:
        path = request.url.path
        if path.endswith("/create_flow_run") or 0 < creations(seen) < number:
            seen.append(path)
        return None

    monkeypatch.setattr(Queue, "receive", receive_or_end)
    with prefect_answers(record), pytest.raises(EndedError):
        sense(600)
    return [path for path in seen if not path.endswith("/logs/")]


def creations(paths: list[str]) -> int:
    return sum(path.endswith("/create_flow_run") for path in paths)


def look_every(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set how often a sensor looks for free places while images wait."""
    monkeypatch.setattr("flows.sensor._POLL_WHILE_WAITING", seconds)


@pytest.mark.parametrize(
    "bodies",
    [
        lambda: [request("long", NUMBER)],
        lambda: [request(f"job-{number}") for number in range(NUMBER)],
    ],
    ids=["one message", "a message each"],
)
def test_an_image_that_will_wait_is_one_request(
    bodies: Callable[[], list[str]], inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_every(3600.0, monkeypatch)
    for body in [request("working"), request("waiting"), *bodies()]:
        send(inbox.queue_url, body)
    seen = requests_while_creating(NUMBER + 2, monkeypatch)
    # the first has the place, and the second waits, of which a look tells
    third = [at for at, path in enumerate(seen) if creations([path])][2]
    assert creations(seen[third:]) == len(seen[third:]) == NUMBER, seen


def test_an_image_begins_while_the_runs_of_its_message_are_created(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_every(0.0, monkeypatch)
    send(inbox.queue_url, request("long", NUMBER))
    seen = requests_while_creating(NUMBER, monkeypatch)
    assert any(path.endswith("/set_state") for path in seen)
    begun = [run for run in inbox.runs() if run.state_name == "Scheduled"]
    assert len(begun) == 1


def test_places_are_looked_for_with_few_requests(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images wait: the first look has read them, with the request of each."""
    look_every(0.0, monkeypatch)
    send(inbox.queue_url, request("long", NUMBER))
    seen = requests_while_creating(NUMBER, monkeypatch)
    assert len(seen) <= NUMBER * (1 + FEW), seen
