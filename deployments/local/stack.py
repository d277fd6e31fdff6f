"""The whole stack on one machine: AWS emulator, Prefect server, work pool, worker, deployments."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from deployments.local import aws, pool, prefect_server
from deployments.local.processes import Processes
from deployments.local.record import StackRecord, stack_lock, write_record
from deployments.local.resources import (
    IMAGE_BUCKET,
    RESULT_BUCKET,
    WORK_BUCKET,
    create_resources,
)

PROJECT = Path(__file__).parents[2]


class Stack:
    """The local stack while a `with` block lasts; it starts empty and leaves nothing running.

    Args:
        folder: Folder for logs and the Prefect home.
        progress: Called with a line for each part that has started.
        local_roots: Folders in which requests may name images and outputs.
        project: Folder whose `prefect.yaml` is deployed.

    Attributes:
        record: The addresses of the stack; set when the block is entered.
        processes: The supervisor, for starting further processes.
    """

    record: StackRecord

    def __init__(
        self,
        folder: Path,
        *,
        progress: Callable[[str], None],
        local_roots: Sequence[Path] = (),
        project: Path = PROJECT,
    ) -> None:
        self.folder = folder.absolute()
        self.processes = Processes()
        self._progress = progress
        self._local_roots = [root.absolute() for root in local_roots]
        self._project = project

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            StackError: A part did not start, or another stack is running.
        """
        with ExitStack() as exits:
            exits.enter_context(stack_lock())
            exits.enter_context(self.processes)
            self.record = self._start()
            write_record(self.record)
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

    def watch(self, seconds: float | None = None) -> None:
        """Wait, and raise if a part of the stack ends.

        Args:
            seconds: Seconds to wait; 0 checks once, None waits without an end.

        Raises:
            StackError: A part of the stack ended.
        """
        self.processes.watch(seconds)

    def _start(self) -> StackRecord:
        # Prefect takes longest to start; everything that does not need it is done meanwhile
        server = prefect_server.start_server(self.processes, self.folder, port=4200)
        cloud = aws.start_aws(self.processes, self.folder)
        aws.wait_for_aws(cloud)
        resources = create_resources(cloud.client)
        self._progress(f"AWS (SQS, SNS, S3) on {cloud.endpoint_url}")
        environment = cloud.environment | {
            "DO_NOT_TRACK": "1",
            "PREFECT_API_URL": server.api_url,
            "PREFECT_HOME": str(server.home),
            "SWATH_QUEUE_URL": resources.queue_url,
            "SWATH_STATUS_TOPIC_ARN": resources.status_topic_arn,
            "SWATH_WORK_URI": f"s3://{WORK_BUCKET}",
            "SWATH_REGION_DEPLOYMENT": "region/region-local",
            "SWATH_LOCAL_ROOTS": json.dumps([str(root) for root in self._local_roots]),
        }
        server.wait()
        self._progress(f"Prefect on {server.ui_url}")
        pool.create_pool(server)
        worker = pool.start_worker(self.processes, server, self.folder, environment)
        pool.deploy(self.processes, server, self.folder, self._project, environment)
        self._progress("Deployments from prefect.yaml")
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
