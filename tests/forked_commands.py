"""Commands of `swath`, each in a process of its own that is forked from one that has imported all.

Starting Python and importing Prefect takes a command some seconds of CPU; a forked one has that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.forking import forking_program

PROGRAM = """
import importlib, json, os, sys

from deployments import cli

for name in (
    "boto3", "httpx", "prefect.client.orchestration", "deployments.jobs.cancellation",
    "deployments.jobs.listing", "deployments.jobs.rerun", "deployments.jobs.runs",
    "deployments.jobs.status", "deployments.wait", "tasks.request", "tasks.storage.objects",
):
    importlib.import_module(name)
print(flush=True)
for line in sys.stdin:
    words, files = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, name in enumerate(files, start=1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["swath", *words]
        sys.exit(cli.main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class ForkedCommands:
    """Runs commands, one at a time, all with the same environment."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answer()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What `swath` with these words comes to."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("stdout", "stderr")]
            assert self._process.stdin is not None
            print(json.dumps([words, list(map(str, files))]), file=self._process.stdin, flush=True)
            code = int(self._answer())
            return subprocess.CompletedProcess(words, code, *(file.read_text() for file in files))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def forked_commands(environment: Mapping[str, str]) -> Iterator[ForkedCommands]:
    """Commands with an environment, while the block lasts."""
    with forking_program([sys.executable, "-c", PROGRAM], environment) as process:
        yield ForkedCommands(process)
