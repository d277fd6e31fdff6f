"""The process of a run shows that it lives, and ends when others ended its run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import AwaitingRetry, Cancelled, Cancelling, Crashed, Pending, Running

from flows.alive import beating
from flows.labels import ALIVE
from flows.region_attempt import run_region
from flows.run_records import client_without_retries
from tests.polling import until

PROCESS = """
import os
import sys
import time
from uuid import UUID

from prefect import flow
from prefect.flow_engine import load_flow_run, run_flow

from flows.alive import alive

@flow
def working(folder):
    with alive(on_cancel=lambda _: open(folder + "/cancelled", "w").close()):
        open(folder + "/working", "w").close()
        while not os.path.exists(folder + "/done"):
            if os.path.exists(folder + "/cancelled"):
                raise ValueError("its calls were ended")
            time.sleep(0.05)

run = load_flow_run(UUID(os.environ["PREFECT__FLOW_RUN_ID"]))
run_flow(working, run, parameters={"folder": sys.argv[1]})
open(sys.argv[1] + "/went on", "w").close()
"""
"""A process as a worker starts it, whose flow works until there is a file, or it is cancelled."""


@flow
def working(folder: str) -> None:
    """Stands for the flow of the process."""


class Run:
    """A run of a deployment, and the process that was started for it.

    It is at work, unless a state is given that others set while the process was starting.
    """

    def __init__(
        self,
        api_url: str,
        folder: Path,
        before: State[None] | None = None,
        parent: UUID | None = None,
    ) -> None:
        with get_client(sync_client=True) as client:
            pool = client.create_work_pool(WorkPoolCreate(name=f"pool-{uuid4()}", type="process"))
            deployment = client.create_deployment(
                client.create_flow(working), f"d-{uuid4()}", work_pool_name=pool.name
            )
            self.id = client.create_flow_run_from_deployment(
                deployment, parent_task_run_id=parent
            ).id
            for state in (Pending(), before):
                if state is not None:
                    client.set_flow_run_state(self.id, state, force=True)
        self.folder = folder
        variables = {"PREFECT_API_URL": api_url, "PREFECT__FLOW_RUN_ID": str(self.id)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder)], env=os.environ | variables
        )
        if before is None:
            until(lambda: self.did("working"))

    def did(self, what: str) -> bool:
        """Whether the process did something."""
        return (self.folder / what).exists()

    def read(self) -> FlowRun:
        """The run as it is now."""
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id)

    def put(self, *states: State[None]) -> UUID | None:
        """Set states of the run, one after the other; returns the id of the last."""
        with get_client(sync_client=True) as client:
            for state in states:
                client.set_flow_run_state(self.id, state, force=True)
        return self.read().state_id


@pytest.fixture
def run(prefect_api: str, tmp_path: Path) -> Iterator[Run]:
    """A run that is at work."""
    started = Run(prefect_api, tmp_path)
    yield started
    started.process.kill()
    started.process.wait()


def test_the_label_changes_while_the_process_works_and_its_end_is_its_own(run: Run) -> None:
    until(lambda: run.read().labels.get(ALIVE))
    first = run.read().labels[ALIVE]
    until(lambda: run.read().labels[ALIVE] != first)
    (run.folder / "done").touch()
    assert run.process.wait() == 0
    assert run.read().state_name == "Completed"
    assert run.did("went on")


@pytest.mark.usefixtures("prefect_api")
def test_prefect_that_could_not_be_called_at_first_is_called_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = [OSError("no socket is left"), KeyError("the environment changed meanwhile")]

    def client() -> AbstractContextManager[SyncPrefectClient]:
        if refused:
            raise refused.pop()
        return client_without_retries()

    monkeypatch.setattr("flows.alive.client_without_retries", client)
    with get_client(sync_client=True) as prefect:
        run = prefect.create_flow_run(working, parameters={"folder": ""})
        with beating(run.id, ALIVE):
            until(lambda: prefect.read_flow_run(run.id).labels.get(ALIVE))


@pytest.mark.parametrize(
    "states",
    [
        [Cancelled()],
        [Cancelling()],
        [Crashed()],
        [AwaitingRetry()],
        [AwaitingRetry(), Pending(), Running()],
    ],
    ids=["cancelled", "cancelling", "crashed", "scheduled", "taken over"],
)
def test_a_process_whose_run_others_ended_ends_and_leaves_the_state_to_them(
    run: Run, states: list[State[None]]
) -> None:
    theirs = run.put(*states)
    assert run.process.wait() == 0
    assert run.read().state_id == theirs
    assert not run.did("went on")
    assert run.did("cancelled") == states[0].name.startswith("Cancel")  # type: ignore[union-attr]


def test_the_process_of_a_region_whose_worker_does_not_see_that_it_is_cancelled_ends_its_run(
    prefect_api: str, tmp_path: Path
) -> None:
    with get_client(sync_client=True) as client:
        image = client.create_flow_run(working, parameters={"folder": ""})
        parent = client.create_task_run(run_region, image.id, dynamic_key="0")
    run = Run(prefect_api, tmp_path, parent=parent.id)
    run.put(Cancelling(message="its image's run ended"))
    assert run.process.wait() == 0
    state = run.read().state
    assert state is not None
    assert (state.name, state.message) == ("Cancelled", "its image's run ended")
    assert not run.did("went on")


@pytest.mark.parametrize("done", [False, True], ids=["at work", "at its end"])
def test_a_process_that_was_paused_while_its_run_was_started_again_does_not_go_on(
    run: Run,
    done: bool,
) -> None:
    run.process.send_signal(signal.SIGSTOP)
    theirs = run.put(AwaitingRetry(), Pending(), Running())
    if done:
        (run.folder / "done").touch()
    run.process.send_signal(signal.SIGCONT)
    assert run.process.wait() == 0
    assert run.read().state_id == theirs
    assert not run.did("went on")


def test_a_process_whose_run_was_deleted_ends(run: Run) -> None:
    with get_client(sync_client=True) as client:
        client.delete_flow_run(run.id)
    assert run.process.wait() == 0
    assert not run.did("went on")


@pytest.mark.parametrize("end", [Cancelled(), Crashed()], ids=["cancelled", "given up"])
def test_a_process_that_was_starting_while_its_run_was_ended_leaves_it_ended(
    prefect_api: str, tmp_path: Path, end: State[None]
) -> None:
    run = Run(prefect_api, tmp_path, before=end)
    assert run.process.wait() == 0
    assert run.read().state_name == end.name
    assert not run.did("working")
