"""The work pool of the local stack, its worker and its deployments."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import httpx

from deployments.local.prefect_server import PREFECT, PrefectServer
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from deployments.prefect_access import access_headers
from tasks.errors import StackError

WORK_POOL = "swath"
_DEPLOY_TIMEOUT = 600.0  # seconds; it takes a few, and minutes on a machine that is busy


_FORK_CLIENT = Path(__file__).with_name("fork_client.py")


def create_pool(server: PrefectServer, fork_server: Path | None = None) -> None:
    """Create the work pool, of type process, or set how the runs of one that exists are started.

    Args:
        server: A server that answers.
        fork_server: Socket of the fork server that starts the runs; None to start each in a Python
            of its own.

    Raises:
        StackError: The server refused it.
    """
    headers = access_headers(server.access)
    with httpx.Client(base_url=server.api_url, headers=headers, timeout=30, trust_env=False) as api:
        try:
            template = _job_template(api, fork_server)
            pool = {"name": WORK_POOL, "type": "process", "base_job_template": template}
            answer = api.post("/work_pools/", json=pool)
            if answer.status_code == httpx.codes.CONFLICT:
                change = {"base_job_template": template}
                answer = api.patch(f"/work_pools/{WORK_POOL}", json=change)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise StackError(
                f"The Prefect server did not create the work pool {WORK_POOL!r}: "
                f"{error.response.status_code} {error.response.text[:200]}. See its log, "
                f"{server.process.log}."
            ) from error


def _job_template(api: httpx.Client, fork_server: Path | None) -> dict[str, Any]:
    """Prefect's job template of the type process, with the command that starts a run."""
    found = api.get("/collections/views/aggregate-worker-metadata").raise_for_status().json()
    template: dict[str, Any] = found["prefect"]["process"]["default_base_job_configuration"]
    if fork_server is not None:
        command = [sys.executable, "-I", "-S", str(_FORK_CLIENT), str(fork_server)]
        template["variables"]["properties"]["command"]["default"] = shlex.join(command)
    return template


def start_fork_server(
    processes: Processes, server: PrefectServer, folder: Path, environment: dict[str, str]
) -> Process:
    """Start the fork server of the pool's runs; it serves once its `fork_socket` exists.

    Args:
        processes: The supervisor of the process.
        server: A server that answers or will.
        folder: Folder for the log and the socket.
        environment: Those of the worker.
    """
    fork_socket(folder).unlink(missing_ok=True)  # of a server that was killed
    return processes.start(
        "the fork server",
        [sys.executable, "-m", "deployments.local.fork_server", str(fork_socket(folder))],
        env=inherited_environment() | server.environment | environment,
        log=folder / "logs" / "runs.log",
        cwd=server.home,
    )


def fork_socket(folder: Path) -> Path:
    """The socket of the fork server of a stack in a folder."""
    return folder / "runs.sock"


def start_worker(
    processes: Processes, server: PrefectServer, folder: Path, environment: dict[str, str]
) -> Process:
    """Start the pool's worker without waiting; `worker_online` is True once it polls the pool.

    Args:
        processes: The supervisor of the process.
        server: A server that answers and has the pool.
        folder: Folder for the log.
        environment: Variables of the worker and of every flow run, besides those of Prefect.
    """
    options = ("--pool", WORK_POOL, "--type", "process", "--name", "local")
    return processes.start(
        "the Prefect worker",
        [*PREFECT, "worker", "start", *options],
        env=inherited_environment() | server.environment | environment,
        log=folder / "logs" / "worker.log",
        cwd=server.home,
        grace=3.0,
    )


def worker_online(server: PrefectServer) -> bool:
    """Whether a worker polls the work pool.

    Args:
        server: A server that has the pool.
    """
    url = f"{server.api_url}/work_pools/{WORK_POOL}/workers/filter"
    try:
        answer = httpx.post(
            url, json={}, headers=access_headers(server.access), timeout=5, trust_env=False
        )
    except httpx.TransportError:
        return False
    return answer.is_success and any(worker["status"] == "ONLINE" for worker in answer.json())


def deploy(
    processes: Processes,
    server: PrefectServer,
    folder: Path,
    project: Path,
    environment: dict[str, str],
) -> None:
    """Deploy the deployments on this machine of a project's `prefect.yaml`.

    Args:
        processes: The supervisor of the process.
        server: A server that answers and has the pool.
        folder: Folder for the log.
        project: Folder with `prefect.yaml`.
        environment: Variables of the process, besides those of Prefect.

    Raises:
        StackError: There is no `prefect.yaml`, or Prefect refused it.
    """
    if not (project / "prefect.yaml").is_file():
        raise StackError(f"There is no prefect.yaml in {project}: run from a clone of the project.")
    processes.run(
        "prefect deploy",
        [*PREFECT, "deploy", "--name", "*-local"],
        env=inherited_environment() | server.environment | environment,
        log=folder / "logs" / "deploy.log",
        cwd=project,
        timeout=_DEPLOY_TIMEOUT,
    )
