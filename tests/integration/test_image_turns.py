"""Three owners on one queue: the order in which their images begin, on a real Prefect server.

Prefect hands out the runs; a worker is played by the test, which sets their states. Sensors replace
each other every few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Cancelling, Completed, Pending, Running

from flows.image import image
from flows.image_runs import ImageRuns
from flows.image_turns import ImageTurns, waiting_state
from flows.waiting_list import WAITING, reasons
from tasks.aws.clients import client
from tasks.queue.sqs import send
from tasks.records.record import read_records
from tasks.request import Request
from tasks.settings import settings
from tests.inbox import Inbox, arn, open_inbox, sense
from tests.polling import until

PLACES = 3


def request(job_id: str, owner: str, priority: int = 0) -> str:
    message = {
        "jobId": job_id,
        "imageUrls": ["s3://images/0.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
        "tags": {"owner": owner},
        "priority": priority,
    }
    return json.dumps(message)


def job(run: FlowRun) -> str:
    return str(run.parameters["request"]["jobId"])


def urgent_queue(name: str) -> str:
    """A queue with a dead-letter queue of its own."""
    sqs = client("sqs")
    aside = sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
    redrive = json.dumps({"deadLetterTargetArn": arn(aside), "maxReceiveCount": 3})
    made = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": redrive})
    return str(made["QueueUrl"])


class Worker:
    """A worker of the work pool.

    Attributes:
        begun: The runs that it was given, in order.
        working: Those of them that have not ended.
    """

    def __init__(self, prefect: SyncPrefectClient, pool: str) -> None:
        self._prefect, self._pool = prefect, pool
        self.begun: list[FlowRun] = []
        self.working: list[FlowRun] = []

    def begin(self) -> list[str]:
        """Begin the runs that Prefect hands out; returns their jobs."""
        given = self._prefect.get_scheduled_flow_runs_for_work_pool(self._pool)
        new = [each.flow_run for each in given]
        for run in new:
            self._set(run.id, Pending())
            self._set(run.id, Running())
        self.begun += new
        self.working += new
        return [job(run) for run in new]

    def end(self) -> None:
        """End all runs that it has begun."""
        for run in self.working:
            self._set(run.id, Completed())
        self.working = []

    def _set(self, run: UUID, state: State[None]) -> None:
        self._prefect.set_flow_run_state(run, state, force=True)


@pytest.fixture
def inbox(
    aws: str, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Inbox, Worker]]:
    name = f"images-{uuid4().hex[:8]}"
    monkeypatch.setenv("SWATH_URGENT_QUEUE_URL", urgent_queue(f"urgent-{name}"))
    monkeypatch.setenv("SWATH_OWNER_QUOTAS", '{"c": {"images": 1}}')
    with get_client(sync_client=True) as prefect:
        prefect.create_work_pool(WorkPoolCreate(name=name, type="process"))
        with open_inbox(
            name, concurrency_limit=PLACES, work_pool_name=name, work_queue_name="images"
        ) as inbox:
            yield inbox, Worker(prefect, name)


@contextmanager
def sensors() -> Iterator[None]:
    """While it is open, one sensor after the other is at work, each for some seconds."""
    ended = Event()

    def work() -> None:
        while not ended.is_set():
            sense(10)

    thread = Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_owners_take_turns_and_what_is_urgent_goes_first(inbox: tuple[Inbox, Worker]) -> None:
    queue, worker = inbox
    for number in range(6):
        send(queue.queue_url, request(f"a-{number}", "a"))
    for number in range(3):
        send(queue.queue_url, request(f"b-{number}", "b"))
        send(queue.queue_url, request(f"c-{number}", "c"))
    with get_client(sync_client=True) as prefect, sensors():
        until(lambda: len(queue.runs()) == 12, queue.depth)
        # two of three places: the model is not known yet, and may be slow
        until(lambda: worker.begin() and len(worker.working) >= 2)
        waiting = [run for run in queue.runs() if run.state_name == WAITING]
        assert len(waiting) >= 12 - PLACES
        until(lambda: {run.id for run in waiting} & reasons(prefect).keys())
        assert all(each.startswith("waits ") for each in reasons(prefect).values())
        cancelled = next(run for run in waiting if job(run) == "a-5")
        prefect.set_flow_run_state(cancelled.id, Cancelling())
        assert prefect.read_flow_run(cancelled.id).state_name == "Cancelled"

        send(str(settings().urgent_queue_url), request("at-once", "a", priority=-5))
        until(lambda: "at-once" in map(job, queue.runs()))
        worker.begin()
        before = len(worker.begun)
        while len(worker.begun) < 12:
            worker.end()
            until(worker.begin)
            owners = [run.parameters["request"]["tags"]["owner"] for run in worker.working]
            assert len(owners) <= PLACES
            assert owners.count("c") <= 1
    jobs = [job(run) for run in worker.begun]
    others = {f"{owner}-{number}" for owner in "bc" for number in range(3)}
    assert sorted(jobs) == sorted(["at-once", *(f"a-{number}" for number in range(5)), *others])
    assert jobs.index("at-once") <= before
    usual = [each[0] for each in jobs if each != "at-once"]
    # each owner has about a third of the places while all of them wait
    assert all(usual[:9].count(owner) >= 2 for owner in "abc"), jobs


def test_an_image_that_a_user_resumes_is_not_repeated_when_it_fails(
    inbox: tuple[Inbox, Worker], allowed: Path
) -> None:
    asked = Request.parse(request("resumed", "a"))
    url = asked.image_urls[0]  # there is no such image
    created = ImageRuns(settings().image_deployment).create(
        asked, url, uuid4().hex, state=waiting_state()
    )
    with get_client(sync_client=True) as prefect:
        prefect.resume_flow_run(created)  # as Prefect's pages do: POST /flow_runs/ID/resume
        prefect.set_flow_run_state(created, Pending())
        resumed = prefect.read_flow_run(created)
    end: Any = run_flow(image, resumed, parameters=resumed.parameters, return_type="state")
    assert end.name == "Failed"
    (record,) = read_records("resumed")
    assert (record.attempts, record.status) == (1, "FAILED")
    with get_client(sync_client=True) as prefect:
        assert prefect.read_flow_run(created).run_count == 1


def test_a_message_that_is_sent_again_with_a_higher_priority_moves_its_image_ahead(
    inbox: tuple[Inbox, Worker],
) -> None:
    queue, worker = inbox
    for number in range(5):
        send(queue.queue_url, request(f"p-{number}", "a"))
    with get_client(sync_client=True) as prefect, sensors():
        until(lambda: len(queue.runs()) == 5, queue.depth)
        until(lambda: worker.begin() and len(worker.working) >= 2)
        waiting = {job(run): run.id for run in queue.runs() if run.state_name == WAITING}
        assert {"p-3", "p-4"} <= waiting.keys()

        def priority() -> int:
            run = prefect.read_flow_run(waiting["p-4"])
            return int(run.parameters["request"].get("priority", 0))

        send(queue.queue_url, request("p-4", "a", priority=7))
        until(lambda: priority() == 7)
        send(queue.queue_url, request("p-4", "a", priority=3))  # the higher one stays
        until(lambda: queue.depth() == (0, 0), queue.depth)
        while len(worker.begun) < 5:
            worker.end()
            until(worker.begin)
        assert priority() == 7
    assert len(queue.runs()) == 5
    jobs = [job(run) for run in worker.begun]
    assert jobs.index("p-4") < jobs.index("p-3")


def test_a_new_image_is_seen_though_another_was_cancelled_meanwhile(
    inbox: tuple[Inbox, Worker],
) -> None:
    runs = ImageRuns(settings().image_deployment)

    def wait(job_id: str, owner: str) -> UUID:
        asked = Request.parse(request(job_id, owner))
        return runs.create(asked, asked.image_urls[0], uuid4().hex, state=waiting_state())

    @flow
    def look() -> None:
        with get_client(sync_client=True) as prefect:
            turns = ImageTurns(runs.name, prefect)
            runs.waiting()
            wait("c-0", "c")
            assert turns.give_places() == 0
            held = wait("c-1", "c")
            assert turns.give_places() == 1  # by the quota of its owner
            prefect.set_flow_run_state(held, Cancelled(), force=True)
            new = wait("b-0", "b")
            assert turns.give_places() == 0
            assert prefect.read_flow_run(new).state_name == "Scheduled"

    look()


def test_a_priority_that_another_process_raises_moves_an_image_ahead(
    inbox: tuple[Inbox, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.image_turns._REREAD", 0.0)
    runs = ImageRuns(settings().image_deployment)
    with get_client(sync_client=True) as prefect:
        turns = ImageTurns(runs.name, prefect)

        @flow
        def look() -> int:
            return turns.give_places()

        def wait(job_id: str, priority: int = 0) -> UUID:
            asked = Request.parse(request(job_id, "c", priority))
            return runs.create(asked, asked.image_urls[0], uuid4().hex, state=waiting_state())

        first, second, third = wait("r-0"), wait("r-1"), wait("r-2")
        assert look() == 2  # by the quota of their owner
        assert wait("r-2", priority=7) == third  # outside a flow run, as `swath redrive` does
        prefect.set_flow_run_state(first, Completed(), force=True)
        assert look() == 1
        assert prefect.read_flow_run(third).state_name == "Scheduled"
        assert prefect.read_flow_run(second).state_name == WAITING
