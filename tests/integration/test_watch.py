"""Which of a job's image runs is watched: the one at work, or else the one that ended last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed, Pending, Running, Scheduled

from deployments.watch import image_run
from flows.image import image

pytestmark = pytest.mark.usefixtures("prefect_api")


@pytest.fixture
def job() -> str:
    return f"job-{uuid4().hex[:8]}"


def create(job: str, *states: State[Any]) -> UUID:
    """Create a run of a job's image and set states of it, one after the other."""
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(image, tags=[f"job:{job}"], state=states[0])
        for state in states[1:]:
            client.set_flow_run_state(run.id, state, force=True)
    return run.id


def watched(job: str) -> UUID | None:
    with get_client(sync_client=True) as client:
        run = image_run(client, job)
    return None if run is None else run.id


def postponed() -> State[None]:
    """The first state of a run that was to start later than any other."""
    return Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))


def test_a_job_without_a_run_has_none(job: str) -> None:
    assert watched(job) is None


@pytest.mark.parametrize("state", [Pending(), Running(), Scheduled()], ids=lambda each: each.name)
def test_a_run_that_has_not_ended_is_watched_whenever_others_were_to_start(
    job: str, state: State[None]
) -> None:
    create(job, postponed(), Running(), Failed())
    live = create(job, Scheduled(), state)
    create(job, postponed(), Running(), Completed())
    assert watched(job) == live


def test_of_runs_that_ended_the_last_is_watched(job: str) -> None:
    create(job, postponed(), Running(), Failed())
    last = create(job, Scheduled(), Running(), Completed())
    assert watched(job) == last
