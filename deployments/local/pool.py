"""The work pool of the local stack, its worker and its deployments."""

from __future__ import annotations

from pathlib import Path

import httpx

from deployments.local.prefect_server import PREFECT, PrefectServer
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from tasks.errors import StackError

WORK_POOL = "swath"


def create_pool(server: PrefectServer) -> None:
    """Create the work pool, of type process; the worker sets its job template.

    Args:
        server: A server that answers.

    Raises:
        StackError: The server refused it.
    """
    pool = {"name": WORK_POOL, "type": "process"}
    answer = httpx.post(f"{server.api_url}/work_pools/", json=pool, timeout=30, trust_env=False)
    if answer.status_code not in (httpx.codes.CREATED, httpx.codes.CONFLICT):
        raise StackError(
            f"The Prefect server did not create the work pool {WORK_POOL!r}: {answer.status_code} "
            f"{answer.text[:200]}. See its log, {server.process.log}."
        )


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
        answer = httpx.post(url, json={}, timeout=5, trust_env=False)
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
        timeout=120,
    )
