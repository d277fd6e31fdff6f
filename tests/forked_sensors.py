"""Sensors of the chain, each in a process of its own that is forked from one that has imported all.

Starting Python and importing Prefect takes a sensor some seconds of CPU; a forked one has that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from deployments.local.guard import die_with_parent
from tests.forking import forking_program


class ForkedSensors:
    """Starts sensors, which end with it at the latest."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, log: Path, visibility: int, variables: Mapping[str, str]) -> psutil.Process:
        """Start a sensor.

        Args:
            log: The file that it appends its output to.
            visibility: Seconds for which a received message is hidden.
            variables: Further variables of its environment.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = json.dumps([str(log), visibility, dict(variables)])
        print(wanted, file=self._process.stdin, flush=True)
        return psutil.Process(int(self._process.stdout.readline()))


@contextmanager
def forked_sensors(environment: Mapping[str, str]) -> Iterator[ForkedSensors]:
    """Sensors with an environment, while the block lasts."""
    with forking_program([sys.executable, "-m", __name__], environment) as process:
        yield ForkedSensors(process)


def _serve() -> None:
    """Fork a sensor for each line of standard input, and print the id of its process."""
    import flows.sensor  # noqa: F401 - for the sensors

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the sensors here
    parent = os.getpid()
    for line in sys.stdin:
        log, visibility, variables = json.loads(line)
        child = os.fork()
        if child == 0:
            die_with_parent(parent)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become_sensor(log, visibility, variables)
            return
        print(child, flush=True)


def _become_sensor(log: str, visibility: int, variables: Mapping[str, str]) -> None:
    """Run a sensor whose messages come back after seconds rather than a minute if it dies.

    It looks for those that SQS moved every 15 seconds.
    """
    import flows.refusals
    import flows.sensor
    import tasks.queue.sqs

    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(file, number)
    os.environ.update(variables)
    flows.refusals._INTERVAL = 15.0
    flows.sensor.VISIBILITY = tasks.queue.sqs.VISIBILITY = visibility  # type: ignore[attr-defined]
    flows.sensor.sensor()


if __name__ == "__main__":
    _serve()
