"""`swath up` with Prefect's database in PostgreSQL."""

from __future__ import annotations

import subprocess
from pathlib import Path

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
