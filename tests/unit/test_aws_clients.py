"""Sessions and clients of AWS: made once, by one thread at a time, or refused with the remedy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from tasks.aws import clients
from tasks.errors import ImageError
from tasks.imagery import open_image

ROLE = "arn:aws:iam::123456789012:role/reader"
THREADS = 8


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    clients.renew_credentials()
    yield
    clients.renew_credentials()


@pytest.fixture
def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("without_credentials")
def test_a_role_that_nothing_can_assume_is_named_with_the_remedy() -> None:
    with pytest.raises(BotoCoreError, match=f"assume {ROLE} with: give this process"):
        clients.client("s3", ROLE)


@pytest.mark.usefixtures("without_credentials")
def test_an_image_with_a_read_role_that_nothing_can_assume_is_refused_with_the_remedy() -> None:
    with pytest.raises(ImageError, match=rf"s3://bucket/a\.tif: .*{ROLE} with: give this process"):
        open_image("s3://bucket/a.tif", read_role=ROLE)


def test_one_thread_at_a_time_makes_sessions_and_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    making, overlaps, made = Lock(), [], []

    def slowly(make: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            mine = making.acquire(blocking=False)
            overlaps.append(not mine)
            time.sleep(0.01)  # long enough for the others to come in
            try:
                made.append(make)
                return make(*args, **options)
            finally:
                if mine:
                    making.release()

        return call

    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(boto3.Session, "client", slowly(boto3.Session.client))
    start = Barrier(THREADS)

    def ask(number: int) -> tuple[int, int]:
        start.wait()
        name = ["s3", "sqs"][number % 2]
        return id(clients.session()), id(clients.client(name))

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ask, range(THREADS)))
    assert not any(overlaps)
    assert len(made) == 2  # a client of each service
    assert len({session for session, _ in found}) == 1
    assert len({client for _, client in found}) == 2
