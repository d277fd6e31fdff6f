"""What stands for the machines of an emulated ECS: each task is a process of this machine.

The emulator keeps the tasks, and an `EcsAgent` does what Fargate's agent does. It starts each
task's command with its environment, ends it by SIGTERM where StopTask was called, and reports each
change as the event that EventBridge would put on a queue.
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
EVERY = 0.2  # seconds between looks at the tasks
GRACE = 10.0  # seconds that a stopped task has to end


@dataclass
class Task:
    """An ECS task, as the agent saw it.

    Attributes:
        arn: Its name in ECS.
        family: Of its task definition.
        environment: All its variables.
        cpu: Units that it asked for.
        memory: MiB that it asked for.
        log: What it printed.
        started: When its process was started, in seconds of the monotonic clock.
        ended: When it was gone.
        exit_code: As a shell has it; None until it ended, -1 where it was never started.
        stopped_by: The reason that StopTask was given; empty where the process ended by itself.
        guard: The process's parent; None while the task waits for a machine.
    """

    arn: str
    family: str
    command: list[str]
    environment: dict[str, str]
    cpu: int
    memory: int
    log: Path
    started: float = 0.0
    ended: float = 0.0
    exit_code: int | None = None
    stopped_by: str = ""
    guard: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def kill(self) -> None:
        """Kill its first process, as the kernel does where memory runs out."""
        assert self.guard is not None
        (program,) = psutil.Process(self.guard.pid).children()
        program.kill()


class EcsAgent:
    """The machines of a cluster, while a `with` block lasts.

    The tasks of services are left to who tests them.

    Args:
        ecs: Client of the emulated ECS.
        sqs: Client of the emulated SQS.
        cluster: Its name.
        queue_url: Where state changes are reported.
        folder: For what tasks print, and their homes.
        variables: That every task has, as those of a machine.

    Attributes:
        tasks: All that were seen, in order.
        heard: Whether state changes reach the queue.
        has_room: Asked whether a family's task can be placed; while not, it is provisioning.
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
        """Begin to look for tasks."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no process."""
        self._closed.set()
        self._thread.join()
        for task in self.tasks:
            if task.guard and task.guard.stdin:
                task.guard.stdin.close()
        for task in self.tasks:
            if task.guard:
                task.guard.wait(GRACE + 5)

    def of(self, family: str) -> list[Task]:
        """The tasks of a family, in the order in which they were started."""
        return [task for task in self.tasks if task.family.endswith(family)]

    def running(self, family: str) -> list[Task]:
        """Those whose process is there."""
        return [task for task in self.of(family) if task.exit_code is None]

    def _work(self) -> None:
        known: set[str] = set()
        while not self._closed.wait(EVERY):
            arns = self._ecs.list_tasks(cluster=self._cluster)["taskArns"]
            for arn in arns:
                if arn not in known:
                    known.add(arn)
                    told = self._describe(arn)
                    if told["overrides"]["containerOverrides"]:  # a service's tasks have none
                        self.tasks.append(self._accept(told))
                        self._report(arn, "PROVISIONING")
            for task in self.tasks:
                if task.exit_code is None:
                    self._look_after(task, stopped=task.arn not in arns)

    def _accept(self, told: dict[str, Any]) -> Task:
        definition = self._ecs.describe_task_definition(taskDefinition=told["taskDefinitionArn"])
        (container,) = definition["taskDefinition"]["containerDefinitions"]
        (override,) = told["overrides"]["containerOverrides"]
        pairs = [*container.get("environment", []), *override.get("environment", [])]
        return Task(
            told["taskArn"],
            definition["taskDefinition"]["family"],
            override["command"],
            {pair["name"]: pair["value"] for pair in pairs},
            cpu=int(told["overrides"]["cpu"]),
            memory=int(told["overrides"]["memory"]),
            log=self._folder / told["taskArn"].rpartition("/")[2] / "log",
        )

    def _look_after(self, task: Task, *, stopped: bool) -> None:
        if stopped and not task.stopped_by:
            task.stopped_by = self._describe(task.arn)["stoppedReason"]
            if task.guard and task.guard.stdin:
                task.guard.stdin.close()  # SIGTERM, and after a while SIGKILL
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
        own = inherited_environment() | self._variables | task.environment | home | {"PATH": path}
        task.started = time.monotonic()
        with task.log.open("wb") as output:
            task.guard = subprocess.Popen(
                [sys.executable, "-I", str(GUARD), str(GRACE), *task.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=own,
                start_new_session=True,
            )
        self._report(task.arn, "RUNNING")

    def _end(self, task: Task, code: int) -> None:
        task.exit_code, task.ended = code, time.monotonic()
        self._report(task.arn, "STOPPED", code if task.guard else None)

    def _describe(self, arn: str) -> dict[str, Any]:
        (told,) = self._ecs.describe_tasks(cluster=self._cluster, tasks=[arn])["tasks"]
        found: dict[str, Any] = told
        return found

    def _report(self, arn: str, status: str, exit_code: int | None = None) -> None:
        """The event of a state change, as EventBridge has it."""
        told = self._describe(arn)
        container: dict[str, Any] = {"name": "prefect", "lastStatus": status, "taskArn": arn}
        if exit_code is not None:
            container["exitCode"] = exit_code
        names = ("taskArn", "clusterArn", "taskDefinitionArn", "stoppedReason")
        detail = {name: told.get(name, "") for name in names}
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
