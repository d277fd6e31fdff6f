"""The agent of an emulated ECS, which runs each task as a process on this machine.

The emulator stores the tasks. `EcsAgent` does what Fargate's agent does: it starts each task's
command with its environment, ends it with SIGTERM after StopTask, and sends each state change to
a queue as EventBridge would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import psutil

from deployments.local import process
from deployments.local.process import inherited_environment

GUARD = Path(process.__file__).with_name("guard.py")
POLL_INTERVAL = 0.5  # seconds
GRACE = 10.0  # seconds from SIGTERM to SIGKILL


@dataclass
class Task:
    """An ECS task.

    Attributes:
        arn: The task's ARN.
        family: Family of its task definition.
        environment: All variables of the container.
        cpu: CPU units of the task.
        memory: Memory of the task in MiB.
        log: File with the output.
        tags: The tags of the task.
        started: Start of the process, in seconds of the monotonic clock.
        ended: End of the process, likewise.
        exit_code: As of a shell; None until the end, -1 if the process was never started.
        stopped_by: The reason given to StopTask; empty if the process ended by itself.
        guard: The parent of the process; None while the task waits for capacity.
    """

    arn: str
    family: str
    command: list[str]
    environment: dict[str, str]
    cpu: int
    memory: int
    log: Path
    tags: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    exit_code: int | None = None
    stopped_by: str = ""
    guard: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def kill(self) -> None:
        """Kill the main process, as the kernel does when memory runs out."""
        assert self.guard is not None
        (program,) = psutil.Process(self.guard.pid).children()
        program.kill()


class EcsAgent:
    """Runs the tasks of a cluster while a `with` block lasts, except those of services.

    Args:
        ecs: Client of the emulated ECS.
        sqs: Client of the emulated SQS.
        cluster: Name of the cluster.
        queue_url: Queue of state changes.
        folder: Folder for logs and homes of tasks.
        variables: Further variables of every task.

    Attributes:
        tasks: All tasks so far, in order.
        heard: Whether state changes are sent to the queue.
        has_room: Whether there is capacity for a task of a family; until then it is PROVISIONING.
    """

    def __init__(
        self,
        ecs: Any,
        sqs: Any,
        *,
        cluster: str,
        queue_url: str,
        folder: Path,
        variables: dict[str, str],
    ) -> None:
        self.tasks: list[Task] = []
        self.heard = True
        self.has_room: Callable[[str], bool] = lambda _: True
        self._ecs, self._sqs, self._cluster, self._queue_url = ecs, sqs, cluster, queue_url
        self._folder, self._variables = folder, variables
        self._closed = Event()
        self._thread = Thread(target=self._work)

    def __enter__(self) -> Self:
        """Start polling for tasks."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every process."""
        self._closed.set()
        self._thread.join()
        for task in self.tasks:
            if task.guard and task.guard.stdin:
                task.guard.stdin.close()
        for task in self.tasks:
            if task.guard:
                task.guard.wait(GRACE + 5)

    def of(self, family: str) -> list[Task]:
        """The tasks of a family, in the order of their start."""
        return [task for task in self.tasks if task.family.endswith(family)]

    def running(self, family: str) -> list[Task]:
        """The tasks of a family that have not ended."""
        return [task for task in self.of(family) if task.exit_code is None]

    def _work(self) -> None:
        known: set[str] = set()
        while not self._closed.wait(POLL_INTERVAL):
            arns = self._ecs.list_tasks(cluster=self._cluster)["taskArns"]
            for arn in arns:
                if arn not in known:
                    known.add(arn)
                    description = self._describe(arn)
                    if description["overrides"][
                        "containerOverrides"
                    ]:  # a service's tasks have none
                        self.tasks.append(self._accept(description))
                        self._report(arn, "PROVISIONING")
            for task in self.tasks:
                if task.exit_code is None:
                    self._update(task, stopped=task.arn not in arns)

    def _accept(self, description: dict[str, Any]) -> Task:
        definition = self._ecs.describe_task_definition(
            taskDefinition=description["taskDefinitionArn"]
        )
        (container,) = definition["taskDefinition"]["containerDefinitions"]
        (override,) = description["overrides"]["containerOverrides"]
        pairs = [*container.get("environment", []), *override.get("environment", [])]
        return Task(
            description["taskArn"],
            definition["taskDefinition"]["family"],
            override["command"],
            {pair["name"]: pair["value"] for pair in pairs},
            cpu=int(description["overrides"]["cpu"]),
            memory=int(description["overrides"]["memory"]),
            log=self._folder / description["taskArn"].rpartition("/")[2] / "log",
            tags={tag["key"]: tag["value"] for tag in description["tags"]},
        )

    def _update(self, task: Task, *, stopped: bool) -> None:
        if stopped and not task.stopped_by:
            task.stopped_by = self._describe(task.arn)["stoppedReason"]
            if task.guard and task.guard.stdin:
                task.guard.stdin.close()  # SIGTERM, later SIGKILL
        if task.guard is None:
            if stopped:
                self._end(task, -1)
            elif self.has_room(task.family):
                self._start(task)
            return
        code = task.guard.poll()
        if code is not None:
            if not stopped:
                reason = "Essential container in task exited"
                self._ecs.stop_task(cluster=self._cluster, task=task.arn, reason=reason)
            self._end(task, code)

    def _start(self, task: Task) -> None:
        task.log.parent.mkdir(parents=True)
        home = {"PREFECT_HOME": str(task.log.parent), "TMPDIR": str(task.log.parent)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        variables = (
            inherited_environment() | self._variables | task.environment | home | {"PATH": path}
        )
        task.started = time.monotonic()
        with task.log.open("wb") as output:
            task.guard = subprocess.Popen(
                [sys.executable, "-I", str(GUARD), str(GRACE), *task.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
            )
        self._report(task.arn, "RUNNING")

    def _end(self, task: Task, code: int) -> None:
        task.ended, task.exit_code = time.monotonic(), code  # the code last: it says that it ended
        self._report(task.arn, "STOPPED", code if task.guard else None)

    def _describe(self, arn: str) -> dict[str, Any]:
        (described,) = self._ecs.describe_tasks(
            cluster=self._cluster, tasks=[arn], include=["TAGS"]
        )["tasks"]
        description: dict[str, Any] = described
        return description

    def _report(self, arn: str, status: str, exit_code: int | None = None) -> None:
        """Send the event of a state change, as EventBridge does."""
        description = self._describe(arn)
        container: dict[str, Any] = {"name": "prefect", "lastStatus": status, "taskArn": arn}
        if exit_code is not None:
            container["exitCode"] = exit_code
        names = ("taskArn", "clusterArn", "taskDefinitionArn", "stoppedReason")
        detail = {name: description.get(name, "") for name in names}
        event = {
            "version": "0",
            "id": str(uuid4()),
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "detail": detail | {"lastStatus": status, "containers": [container]},
        }
        if self.heard:
            self._sqs.send_message(QueueUrl=self._queue_url, MessageBody=json.dumps(event))
