"""The whole stack on one machine: AWS emulator, Prefect server, work pool, worker, deployments."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from deployments.local import aws, pool, prefect_server
from deployments.local.kept import Kept
from deployments.local.lost_runs import settle_lost_runs
from deployments.local.process import Process
from deployments.local.processes import Processes
from deployments.local.record import StackRecord, remove_record, stack_lock, write_record
from deployments.local.resources import (
    IMAGE_BUCKET,
    RESULT_BUCKET,
    WORK_BUCKET,
    create_resources,
)
from deployments.prefect_access import access_headers, reachable
from tasks.errors import StackError
from tasks.settings import settings

PROJECT = Path(__file__).parents[2]
_INTERVAL = 0.5  # seconds between two looks at the processes


class Stack:
    """The local stack while a `with` block lasts; it leaves nothing running.

    Args:
        folder: Folder for logs, and for all that is kept: queues, buckets, and Prefect's runs.
        progress: Called with a line for each part that has started, or was started again.
        fresh: Whether to start empty, or with what the folder has kept.
        local_roots: Folders in which requests may name images and outputs.
        project: Folder whose `prefect.yaml` is deployed.

    Attributes:
        record: The addresses of the stack.
        processes: The supervisor, for starting further processes.
        kept: What the folder has kept, and the ports.
        worker_started: Called by `watch` when the worker was started again.

    All of them but the last are set when the block is entered.
    """

    record: StackRecord
    processes: Processes
    kept: Kept

    def __init__(
        self,
        folder: Path,
        *,
        progress: Callable[[str], None],
        fresh: bool = True,
        local_roots: Sequence[Path] = (),
        project: Path = PROJECT,
    ) -> None:
        self.folder = folder.absolute()
        self._progress, self._fresh = progress, fresh
        self.worker_started: Callable[[], None] = lambda: None
        self._worker_ended: datetime | None = None  # until its runs are settled
        self._fork_server: Process | None = None
        self._fork_server_ended = False  # until a sensor is started
        self._local_roots = [root.absolute() for root in local_roots]
        self._project = project

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            StackError: A part did not start, another stack is running, or the folder was written
                by newer versions.
        """
        with ExitStack() as exits:
            lock = exits.enter_context(stack_lock(self._progress))
            self.kept = Kept(self.folder, fresh=self._fresh, progress=self._progress)
            self.processes = exits.enter_context(Processes(self._report_end, lock))
            self.record = self._start()
            write_record(self.record)
            exits.callback(remove_record)  # before its processes are stopped
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self._exits.close()

    @property
    def metrics(self) -> Path:
        """Folder in which its processes keep their metrics."""
        return self.folder / "metrics"

    def watch(self, seconds: float | None = None) -> None:
        """Wait; meanwhile a part of the stack that ends is started again.

        Args:
            seconds: Seconds to wait; 0 checks once, None waits without an end.

        Raises:
            StackError: A part of the stack ended soon after its start, several times in a row.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            self.processes.watch(0)
            if self._worker_ended and reachable(self.record.api_url):
                self._settle_lost_runs(self._worker_ended)
            if self._fork_server_ended and reachable(self.record.api_url):
                self._start_sensor()
            left = _INTERVAL if deadline is None else min(_INTERVAL, deadline - time.monotonic())
            if left <= 0:
                return
            time.sleep(left)

    def _report_end(self, process: Process, end: str) -> None:
        self._progress(f"{process.name} {end}: it is started again. Its log: {process.log}")
        if process is self._worker:
            self._worker_ended = datetime.now(UTC)
        if process is self._fork_server:  # and with it all runs, whose states the worker sets
            self._fork_server_ended = True

    def _settle_lost_runs(self, ended: datetime) -> None:
        """Settle the runs of a worker that has ended; if Prefect does not answer, do so later."""
        with suppress(httpx.HTTPError):
            headers = access_headers(self.record.environment)
            settle_lost_runs(self.record.api_url, ended, stopped=False, headers=headers)
            self.worker_started()
            self._worker_ended = None

    def _start_sensor(self) -> None:
        """Start a sensor after the last one ended with the fork server."""
        with suppress(httpx.HTTPError):
            self.worker_started()
            self._fork_server_ended = False

    def _start(self) -> StackRecord:
        # Prefect takes longest to start; everything that does not need it is done meanwhile
        port = self.kept.port("Prefect", 4200)
        server = prefect_server.start_server(
            self.processes, self.folder, port=port, variables=prefect_server.own_database()
        )
        port = self.kept.port("the embedded AWS", 4566)
        cloud = aws.start_aws(self.processes, self.folder, port=port, keep=True)
        aws.wait_for_aws(cloud)
        resources = create_resources(cloud.client)
        self._progress(f"AWS (SQS, SNS, S3) on {cloud.endpoint_url}")
        environment = (
            cloud.environment
            | server.access
            | {
                "DO_NOT_TRACK": "1",
                "PREFECT_API_URL": server.api_url,
                "PREFECT_HOME": str(server.home),
                "SWATH_QUEUE_URL": resources.queue_url,
                "SWATH_STATUS_TOPIC_ARN": resources.status_topic_arn,
                "SWATH_WORK_URI": f"s3://{WORK_BUCKET}",
                "SWATH_REGION_DEPLOYMENT": "region/region-local",
                **({"SWATH_METRICS_FOLDER": str(self.metrics)} if settings().metrics_port else {}),
                "SWATH_LOCAL_ROOTS": json.dumps([str(root) for root in self._local_roots]),
            }
        )
        if forks := sys.platform == "linux":  # libraries of other systems do not survive a fork
            self._fork_server = pool.start_fork_server(
                self.processes, server, self.folder, environment
            )
        server.wait()
        self._progress(f"Prefect on {server.ui_url}")
        pool.create_pool(server, pool.fork_socket(self.folder) if forks else None)
        try:
            headers = access_headers(server.access)
            settle_lost_runs(server.api_url, datetime.now(UTC), stopped=True, headers=headers)
        except httpx.HTTPError as error:
            raise StackError(
                f"The runs of the last time cannot be read: {error}. See {server.process.log}."
            ) from error
        self._worker = worker = pool.start_worker(self.processes, server, self.folder, environment)
        pool.deploy(self.processes, server, self.folder, self._project, environment)
        self._progress("Deployments from prefect.yaml")
        if self._fork_server:
            self._fork_server.wait_until(pool.fork_socket(self.folder).exists, timeout=60)
        worker.wait_until(lambda: pool.worker_online(server), timeout=60)
        self._progress(f"Worker on pool {pool.WORK_POOL}")
        return StackRecord(
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            folder=self.folder,
            ui_url=server.ui_url,
            api_url=server.api_url,
            queue_url=resources.queue_url,
            dead_letter_url=resources.dead_letter_url,
            status_queue_url=resources.status_queue_url,
            image_bucket=IMAGE_BUCKET,
            result_bucket=RESULT_BUCKET,
            environment=environment,
        )
