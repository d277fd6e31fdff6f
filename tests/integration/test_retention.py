"""How long a Prefect server keeps runs: with its settings for Swath, on a real server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, get_client, get_run_logger, task
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running

from deployments.local.prefect_server import PrefectServer, start_server
from deployments.local.processes import Processes
from tests.polling import until

KEPT = timedelta(days=30)


@flow
def image() -> None: ...


@task
def run_region() -> None: ...


@task
def batch() -> None: ...


@flow
def region() -> None:
    batch.submit().wait()


@task
def work() -> None:
    region()


@flow
def job() -> None:
    """A run as Swath has them: with task runs, a run of a region, a log, artifacts and metrics."""
    work()
    get_run_logger().info("a line")
    create_progress_artifact(100.0, key="progress")
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(flow_run.id), {"swath.tiles": 1})


@contextmanager
def started(folder: Path, **services: str) -> Iterator[PrefectServer]:
    """A server that looks for old runs every second, not every hour.

    Args:
        folder: For its database and log.
        **services: Further settings of the server, after `PREFECT_SERVER_`.
    """
    services = {"SERVICES_DB_VACUUM_LOOP_SECONDS": "1"} | services
    often = {f"PREFECT_SERVER_{name}": value for name, value in services.items()}
    with Processes() as processes:
        server = start_server(processes, folder, variables=often)
        server.wait(timeout=600)
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    with started(tmp_path) as server:
        yield server


class Runs:
    """Runs of the server, as an image's run and those of its regions are recorded."""

    def __init__(self, server: PrefectServer, client: SyncPrefectClient) -> None:
        self._client = client
        self._database = server.home / "prefect.db"

    def image(self, state: State[None]) -> UUID:
        run = self._client.create_flow_run(image, state=state)
        artifact = {"key": "summary", "flow_run_id": str(run.id), "data": ""}
        self._client.request("POST", "/artifacts/", json=artifact)
        self._log(run.id)
        return run.id

    def region(self, parent: UUID) -> UUID:
        waits = self._client.create_task_run(run_region, parent, "0")
        run = self._client.create_flow_run(image, state=Completed(), parent_task_run_id=waits.id)
        self._log(run.id)
        return run.id

    def end(self, run_id: UUID, ago: timedelta) -> None:
        moment = (datetime.now(UTC) - ago).replace(tzinfo=None).isoformat(" ")
        with closing(sqlite3.connect(self._database, timeout=60)) as database, database:
            changed = database.execute(
                "update flow_run set end_time = ? where id = ?", (moment, str(run_id))
            )
            assert changed.rowcount == 1

    def exists(self, run_id: UUID) -> bool:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        return self._client.count_flow_runs(flow_run_filter=wanted) == 1

    def traces(self, run_id: UUID) -> int:
        """Log lines and artifacts of a run."""
        logs = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
        artifacts = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        return len(self._client.read_logs(logs)) + len(
            self._client.read_artifacts(artifact_filter=artifacts)
        )

    def _log(self, run_id: UUID) -> None:
        line = LogCreate(
            name="swath", level=20, message="a", timestamp=datetime.now(UTC), flow_run_id=run_id
        )
        self._client.create_logs([line])


def test_an_old_run_goes_with_its_regions_and_a_recent_or_unfinished_one_stays(
    server: PrefectServer,
) -> None:
    day = timedelta(days=1)
    api = temporary_settings({PREFECT_API_URL: server.api_url})
    with api, get_client(sync_client=True) as client:
        runs = Runs(server, client)
        old, recent = runs.image(Completed()), runs.image(Completed())
        unfinished = runs.image(Running())
        regions = [runs.region(parent) for parent in (old, recent)]
        until(lambda: all(runs.traces(run) for run in (old, recent, unfinished, *regions)))

        runs.end(regions[1], KEPT + day)  # its image's run is kept, and so is the region's
        runs.end(recent, KEPT - day)
        runs.end(regions[0], KEPT + day)
        runs.end(old, KEPT + day)

        gone = (old, regions[0])
        until(lambda: not any(map(runs.exists, gone)))
        until(lambda: not any(map(runs.traces, gone)))
        for run in (recent, unfinished, regions[1]):
            assert runs.exists(run)
            assert runs.traces(run)


def rows(server: PrefectServer) -> dict[str, int]:
    """The rows of every table, the server's own tables left out."""
    with closing(sqlite3.connect(server.home / "prefect.db", timeout=60)) as database:
        tables = [
            name
            for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            if name not in {"csrf_token", "alembic_version"}
        ]
        return {
            name: int(database.execute(f"select count(*) from {name}").fetchone()[0])
            for name in tables
        }


def age(server: PrefectServer) -> None:
    """Make all that has ended older than anything is kept."""
    moment = (datetime.now(UTC) - KEPT - timedelta(days=1)).replace(tzinfo=None).isoformat(" ")
    with closing(sqlite3.connect(server.home / "prefect.db", timeout=60)) as database, database:
        database.execute("update flow_run set end_time = ? where end_time is not null", (moment,))
        for table in ("events", "event_resources"):
            database.execute(f"update {table} set occurred = ?", (moment,))


def test_no_table_grows_while_runs_come_and_grow_old(tmp_path: Path) -> None:
    orphans = {"SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "1"}
    with (
        started(tmp_path, **orphans) as server,
        temporary_settings({PREFECT_API_URL: server.api_url}),
    ):

        def nothing_is_left() -> bool:
            age(server)
            return rows(server)["flow_run"] + rows(server)["events"] == 0

        def runs_grow_old(number: int) -> dict[str, int]:
            for _ in range(number):
                job()
            until(lambda: rows(server)["events"] > 0)
            until(nothing_is_left, interval=1.0)
            return rows(server)

        before = runs_grow_old(1)

        def grown() -> dict[str, int]:
            age(server)  # the last events come late
            return {name: count for name, count in rows(server).items() if count > before[name]}

        runs_grow_old(5)
        until(lambda: not grown(), grown, interval=1.0)
