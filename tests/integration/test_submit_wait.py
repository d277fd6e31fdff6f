"""`swath submit --wait`: the outcome of a request on the queue, by Prefect's records."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from rich.console import Console

from deployments.wait import wait_for_images
from flows.image_runs import find_run
from tasks.aws.clients import client
from tasks.queue.sqs import send
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tests.inbox import Inbox, open_inbox

URLS = [f"s3://images/{name}.tif" for name in "ab"]


@pytest.fixture
def inbox(aws: str, prefect_api: str) -> Iterator[Inbox]:
    """One whose runs no worker starts: the tests set their states."""
    bucket = f"images-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=bucket)
    with open_inbox(bucket) as inbox:
        yield inbox


def body() -> str:
    message = {
        "jobId": f"job-{uuid4().hex[:8]}",
        "imageUrls": URLS,
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
    }
    return json.dumps(message)


def end(inbox: Inbox, url: str, state: State[None]) -> None:
    with get_client(sync_client=True) as prefect:
        for run in inbox.runs():
            if run.parameters["image_url"] == url and not (run.state and run.state.is_final()):
                prefect.set_flow_run_state(run.id, state, force=True)


def test_the_worst_outcome_of_the_images_is_returned_when_all_have_ended(inbox: Inbox) -> None:
    text = body()
    message_id = send(inbox.queue_url, text)
    printed = Console(file=io.StringIO(), width=200)
    with ThreadPoolExecutor() as pool:
        run = copy_context().run  # Prefect's settings belong to a context
        waiting = pool.submit(run, wait_for_images, Request.parse(text), message_id, printed)
        assert inbox.drain() == 2
        end(inbox, URLS[1], Failed(message="no such image"))
        assert not waiting.done()
        end(inbox, URLS[0], Completed(message="3 features"))
        assert waiting.result(120) is JobStatus.FAILED
    lines = printed.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert f"{URLS[0]}: SUCCESS: 3 features" in lines
    assert lines[-1] == f"{URLS[1]}: FAILED: no such image"


def test_a_message_is_served_by_its_own_run_and_by_none_that_ended_before(inbox: Inbox) -> None:
    text = body()
    request = Request.parse(text)
    first = send(inbox.queue_url, text)
    assert inbox.drain() == 2
    end(inbox, URLS[0], Completed())
    end(inbox, URLS[1], Failed())
    again = send(inbox.queue_url, text)
    with get_client(sync_client=True) as prefect:
        runs = {run.parameters["image_url"]: run.id for run in inbox.runs()}
        for url in URLS:
            found = find_run(prefect, request, url, first)
            assert found is not None
            assert found.id == runs[url]
            assert find_run(prefect, request, url, again) is None
        inbox.drain()
        for url in URLS:
            found = find_run(prefect, request, url, again)
            assert found is not None
            assert found.id not in runs.values()
