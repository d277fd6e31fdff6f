"""`swath up` with Prefect's database in PostgreSQL."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployments.local.prefect_server import own_database, start_server
from deployments.local.processes import Processes
from tasks.errors import StackError
from tests.job_scene import paint
from tests.model_server import model_server
from tests.postgres import postgres, programs
from tests.swath_up import swath_up

STATES = "select state_name from flow_run where name ~ 'a.tif'"


def test_runs_are_kept_in_the_database_that_is_named(tmp_path: Path) -> None:
    with (
        postgres() as url,
        model_server() as model,
        swath_up(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=url) as up,
    ):
        up.start()
        up.submit("job", f"{model}/bright-targets/invocations", paint(tmp_path / "a.tif", 400, 300))
        up.await_state("job", "Completed")
        command = [str(programs() / "psql"), url.replace("+asyncpg", ""), "-tAc", STATES]
        assert subprocess.check_output(command, text=True).split() == ["Completed"] * 2
        assert not (up.state / "stack" / "prefect" / "prefect.db").exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [("mysql://a:secret@b/c", "'mysql' is no driver"), ("secret", "'' is no driver")],
)
def test_a_database_that_prefect_does_not_know_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", url)
    with pytest.raises(StackError, match=told) as error:
        own_database()
    assert "secret" not in str(error.value)


def test_of_a_database_that_does_not_answer_the_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "postgresql+asyncpg://prefect@127.0.0.1:1/prefect"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", nowhere)
    named = "one that PREFECT_SERVER_DATABASE_CONNECTION_URL names: it has to exist"
    with Processes() as processes, pytest.raises(StackError, match=named):
        start_server(processes, tmp_path, variables=own_database()).wait()
