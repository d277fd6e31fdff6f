"""A running `swath up`, looked at from outside: its database, its queues and its processes."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event
from typing import Any

import boto3
import httpx
import numpy as np
import psutil

from deployments.prefect_access import access_headers
from tests.benchmarks.prefect_pages import PAGES, Opened, open_page
from tests.swath_up import SwathUp
from tests.tiffs import write

SIDE = 64  # pixels of an image
TABLES = ["flow_run", "flow_run_state", "task_run", "log", "events", "artifact"]
PARTS = ["prefect", "worker", "forks", "aws"]
TERMINAL = {"SUCCESS", "PARTIAL", "FAILED"}


@dataclass
class ObservedStack:
    """A stack that is at work.

    Attributes:
        up: The stack.
        model: URL of the model that requests name.
        opened: What it took to open each page of Prefect, each time that `browsing` did.
    """

    up: SwathUp
    model: str
    opened: dict[str, list[Opened]] = field(default_factory=dict)

    def images(self, prefix: str, number: int) -> list[str]:
        """Write images that differ in their names."""
        first = write(self.up.folder / f"{prefix}-0.tif", np.full((1, SIDE, SIDE), 7, np.uint8))
        copies = [first.with_name(f"{prefix}-{index}.tif") for index in range(1, number)]
        for copy in copies:
            copy.write_bytes(first.read_bytes())
        return [str(path) for path in (first, *copies)]

    def request(self, job: str, images: Sequence[str]) -> str:
        message = {
            "jobId": job,
            "imageUrls": [*images],
            "outputs": [{"type": "File", "path": str(self.up.folder / "results" / job)}],
            "imageProcessor": {"name": self.model, "type": "HTTP_ENDPOINT"},
            "imageProcessorTileSize": SIDE,
            "imageProcessorTileOverlap": 0,
        }
        return json.dumps(message)

    @cached_property
    def sqs(self) -> Any:
        variables = self.up.record.environment
        return boto3.client(
            "sqs",
            endpoint_url=variables["AWS_ENDPOINT_URL"],
            region_name=variables["AWS_DEFAULT_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        )

    def send(self, bodies: Sequence[str]) -> None:
        for first in range(0, len(bodies), 10):
            entries = [
                {"Id": str(index), "MessageBody": body}
                for index, body in enumerate(bodies[first : first + 10])
            ]
            self.sqs.send_message_batch(QueueUrl=self.up.record.queue_url, Entries=entries)

    def depth(self, url: str) -> int:
        """Messages on a queue, hidden ones too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def ends(self) -> Counter[str]:
        """The terminal statuses on the status topic so far, by image; those read are deleted."""
        url, found = self.up.record.status_queue_url, Counter[str]()
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                values = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
                if values["status"] in TERMINAL:
                    found[values["image_id"]] += 1
            self.sqs.delete_message_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                    for index, message in enumerate(messages)
                ],
            )
        return found

    def select(self, query: str, *values: object) -> list[Any]:
        """Rows of Prefect's database, which cost its server nothing."""
        path = self.up.state / "stack" / "prefect" / "prefect.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(query, values).fetchall()

    def runs(self, prefix: str, state: str = "%") -> int:
        """Number of the runs of images whose names begin so, of those in a state."""
        ((number,),) = self.select(
            "select count(*) from flow_run where name like ? and state_name like ?",
            f"{prefix}-%.tif - %",
            state,
        )
        return int(number)

    def rate(self, prefix: str) -> float:
        """Runs of images whose names begin so that were created in a second."""
        ((number, seconds),) = self.select(
            "select count(*), 86400 * (max(julianday(created)) - min(julianday(created))) "
            "from flow_run where name like ?",
            f"{prefix}-%.tif - %",
        )
        return round(number / seconds, 1) if seconds else 0.0

    def rows(self) -> dict[str, int]:
        """Rows of the tables of Prefect's database."""
        return {table: self.select(f"select count(*) from {table}")[0][0] for table in TABLES}

    def cpu(self) -> dict[str, float]:
        """CPU seconds of the parts so far; the sensor is one of those that `forks` has started."""
        seconds = {part: _tree(self.up.part(part)) for part in PARTS}
        return seconds | {"sensor": self._sensor()}

    def _sensor(self) -> float:
        running = "select id from flow_run where name = 'sensor' and state_type = 'RUNNING'"
        names = {f"swath-{run[:8]}" for (run,) in self.select(running)}
        seconds = 0.0
        for process in self.up.part("forks").children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:2]) if process.name() in names else 0.0
        return seconds

    @contextmanager
    def browsing(self, pause: float) -> Iterator[None]:
        """While it is open, someone opens one page after the other, with pauses in seconds."""
        self.opened, ended = {page: [] for page in PAGES}, Event()

        def browse() -> None:
            record = self.up.record
            headers = access_headers(record.environment)
            with httpx.Client(
                base_url=record.api_url, headers=headers, timeout=120, trust_env=False
            ) as api:
                while not ended.is_set():
                    for page, calls in PAGES.items():
                        query = "select id from flow_run where name like '%.tif - %' limit 1"
                        if found := self.select(query):
                            self.opened[page].append(open_page(api, calls(found[0][0])))
                        ended.wait(pause)

        with ThreadPoolExecutor(1) as thread:
            browsed = thread.submit(browse)
            try:
                yield
            finally:
                ended.set()
                browsed.result()


def _tree(process: psutil.Process) -> float:
    """CPU seconds of a process and all below it, those that have ended among them."""
    seconds = 0.0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # its parent has its time by now
            seconds += sum(each.cpu_times()[:4])
    return seconds
