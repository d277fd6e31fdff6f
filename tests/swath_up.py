"""`swath up` as a process, whose parts and which itself can be killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from deployments.local.process import inherited_environment
from deployments.local.record import StackRecord
from deployments.prefect_access import access_headers
from tests.polling import until

PARTS = {
    "worker": "worker start",
    "prefect": "deployments.local.prefect_program",
    "aws": "deployments.local.aws_program",
    "models": "deployments.model_server",
    "forks": "deployments.local.fork_server",
}
"""What the command line of each part contains."""


@dataclass
class SwathUp:
    """A stack of one test.

    Attributes:
        folder: For its state and log; requests may name files in it.
        variables: Further variables of its processes.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        """Its `SWATH_STATE_DIR`."""
        return self.folder / "state"

    @property
    def record(self) -> StackRecord:
        """The addresses of the running stack."""
        return StackRecord.model_validate_json((self.state / "stack.json").read_bytes())

    @property
    def console(self) -> str:
        """What it has printed, of all starts."""
        return (self.folder / "up.log").read_text()

    def start(self, *options: str) -> None:
        """Start it and wait until it is up."""
        ups = self.console.count("The stack is up") if (self.folder / "up.log").exists() else 0
        with (self.folder / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "deployments.cli",
                    "up",
                    "--root",
                    str(self.folder),
                    *options,
                ],
                env=inherited_environment()
                | {"SWATH_STATE_DIR": str(self.state), "COLUMNS": "500"}
                | self.variables,
                stdout=log,
                stderr=log,
            )
        process = self._process

        def is_up() -> bool:
            assert process.poll() is None, self.console
            return self.console.count("The stack is up") > ups

        until(is_up)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send it a signal and wait until it has ended; its parts may end later."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(120)
            self._process = None

    def part(self, name: str) -> psutil.Process:
        """The program of one of `PARTS`, below its guard."""
        assert self._process is not None
        (found,) = (
            program
            for guard in psutil.Process(self._process.pid).children()
            for program in guard.children()
            if PARTS[name] in " ".join(program.cmdline())
        )
        return found

    def kill_part(self, name: str) -> None:
        """Kill a part -9 and wait until it was started again."""
        again = self.console.count("is started again")
        self.part(name).kill()
        until(lambda: self.console.count("is started again") > again, lambda: self.console)

    def submit(self, job: str, model_url: str, image: Path, **fields: Any) -> None:
        """Send a request for a local image, whose results go into the folder."""
        request = {
            "jobId": job,
            "imageUrls": [str(image)],
            "outputs": [{"type": "File", "path": str(self.folder / "results")}],
            "imageProcessor": {"name": model_url, "type": "HTTP_ENDPOINT"},
            "imageProcessorTileSize": 128,
            "imageProcessorTileOverlap": 32,
            "imageProcessorTileFormat": "GTIFF",
        } | fields
        subprocess.run(
            [sys.executable, "-m", "deployments.cli", "submit", "-"],
            input=json.dumps(request).encode(),
            env=inherited_environment() | {"SWATH_STATE_DIR": str(self.state)},
            check=True,
        )

    def runs(self, job: str) -> list[dict[str, Any]]:
        """The runs of a job's images; none while Prefect does not answer."""
        tagged = {"flow_runs": {"tags": {"all_": [f"job:{job}"]}}}
        url = f"{self.record.api_url}/flow_runs/filter"
        try:
            headers = access_headers(self.record.environment)
            answer = httpx.post(url, json=tagged, headers=headers, timeout=30, trust_env=False)
            answer.raise_for_status()
        except httpx.HTTPError:
            return []
        return [run for run in answer.json() if "region" not in run["parameters"]]

    def await_state(self, job: str, state: str) -> None:
        """Wait until the run of a job's image has a state."""
        until(
            lambda: [run["state"]["name"] for run in self.runs(job)] == [state],
            lambda: ([run["state"] for run in self.runs(job)], self.console),
        )


@contextmanager
def swath_up(folder: Path, **variables: str) -> Iterator[SwathUp]:
    """A stack that is not started yet; it is stopped when the block ends.

    Args:
        folder: For its state, log and results.
        variables: Further variables of its processes.
    """
    up = SwathUp(folder, variables)
    try:
        yield up
    finally:
        up.stop()
