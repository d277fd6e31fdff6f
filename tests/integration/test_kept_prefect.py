"""A Prefect server that is started again in its folder has its runs, also of an older version."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx

from deployments.local.prefect_server import (
    PREFECT,
    PrefectServer,
    server_environment,
    start_server,
)
from deployments.local.process import inherited_environment
from deployments.local.processes import Processes


def flows(server: PrefectServer) -> list[str]:
    answer = httpx.post(f"{server.api_url}/flows/filter", json={}, timeout=60, trust_env=False)
    return [flow["name"] for flow in answer.raise_for_status().json()]


def test_runs_are_kept_and_an_older_database_is_migrated(tmp_path: Path) -> None:
    with Processes() as processes:
        server = start_server(processes, tmp_path)
        server.wait(timeout=600)
        url = f"{server.api_url}/flows/"
        httpx.post(url, json={"name": "mine"}, timeout=60, trust_env=False).raise_for_status()
    older = [*PREFECT, "server", "database", "downgrade", "--revision", "-2", "--yes"]
    environment = inherited_environment() | server_environment(server.home, server.port)
    subprocess.run(older, env=environment, check=True, capture_output=True)
    with Processes() as processes:
        server = start_server(processes, tmp_path, port=server.port)
        server.wait(timeout=600)
        assert flows(server) == ["mine"]
