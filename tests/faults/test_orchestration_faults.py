"""What becomes of an image when processes of its runs, or the worker's, die or never start."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from prefect import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from tests.chain import Chain, kill, processes_of
from tests.faults.conftest import IMAGE, SMALL, TILES
from tests.faulty_proxy import Call
from tests.polling import until

pytestmark = pytest.mark.slow_fault


def starts_running(run: FlowRun) -> Any:
    """Whether a call sets a run to Running."""

    def matches(call: Call) -> bool:
        return (
            call.path.endswith(f"/flow_runs/{run.id}/set_state")
            and json.loads(call.body)["state"]["type"] == "RUNNING"
        )

    return matches


def ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def image_run(chain: Chain, job: str) -> FlowRun:
    """The only run of a job's image, once it exists."""
    until(lambda: chain.image_runs(job))
    (run,) = chain.image_runs(job)
    return run


def test_11_a_region_is_killed(chain: Chain, job: str, expected: list[dict[str, Any]]) -> None:
    """Only what was in flight is asked again: what was answered had been stored."""
    model = chain.models.model()
    model.answer_only(20)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered == 20)
        until(lambda: chain.stored_tiles(job) >= 20, lambda: chain.stored_tiles(job))
        in_flight = model.figures().in_flight
        kill(chain.await_processes(job, of_regions=True)[:1])
        model.answer_all()
        assert chain.await_end(job) == "SUCCESS"
    assert chain.features(job, IMAGE) == expected
    assert model.figures().extra <= in_flight


def test_12_the_run_of_the_image_is_killed_after_its_regions_finished(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    model = chain.models.model()
    with chain.sensor():
        with chain.aws.holding(chain.writes_results(job)) as held:
            chain.send(job, model, IMAGE)
            until(lambda: held.calls)
            calls = model.figures().total
            kill(chain.await_processes(job))
        assert chain.await_end(job) == "SUCCESS"
    assert chain.features(job, IMAGE) == expected
    assert model.figures().total == calls == TILES
    assert chain.statuses(job).count("FAILED") == 0


def test_13_a_region_that_is_worked_twice_counts_once(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    model = chain.models.model()
    model.answer_only(10)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered == 10)
        region = chain.region_runs(job)[0]
        with get_client(sync_client=True) as prefect:
            assert region.deployment_id is not None
            again = prefect.create_flow_run_from_deployment(
                region.deployment_id, parameters=region.parameters
            )
            model.answer_all()
            assert chain.await_end(job) == "SUCCESS"
            until(lambda: ended(prefect.read_flow_run(again.id)))
    assert chain.features(job, IMAGE) == expected
    tiles = pq.read_table(chain.download(job, f"{IMAGE}.coverage.parquet"))["tile"].to_pylist()
    assert sorted(tiles) == list(range(len(tiles)))


def test_14_the_image_is_cancelled(chain: Chain, job: str) -> None:
    """Its calls end though the model never answers them, and none is made after that."""
    model = chain.models.model()
    model.answer_only(10)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered == 10)
        with get_client(sync_client=True) as prefect:
            prefect.set_flow_run_state(image_run(chain, job).id, Cancelling())
        until(lambda: model.figures().in_flight == 0)
        model.answer_all()
        assert chain.await_end(job) == "FAILED"
        calls = model.figures().total
        until(lambda: all(map(ended, chain.region_runs(job))))
    assert model.figures().total == calls < TILES
    assert chain.published(job) == []


def test_15_a_slot_orphaned_by_a_killed_run_comes_back(chain: Chain, job: str) -> None:
    """Two images may run at a time: both die with their worker, and a third is waiting."""
    jobs = {f"{job}-{number}": chain.models.model() for number in range(3)}
    *first, last = jobs
    with chain.sensor():
        for each in first:
            jobs[each].answer_only(3)
            chain.send(each, jobs[each], SMALL)
        for each in first:
            until(lambda model=jobs[each]: model.figures().answered == 3)  # type: ignore[misc]
            until(lambda each=each: chain.stored_tiles(each) == 3)  # type: ignore[misc]
        in_flight = [model.figures().in_flight for model in jobs.values()]
        chain.kill_worker()
        for each in first:
            jobs[each].answer_all()
        chain.send(last, jobs[last], SMALL)
        chain.start_worker()
        assert [chain.await_end(each) for each in jobs] == ["SUCCESS"] * 3
    extra = [model.figures().extra for model in jobs.values()]
    assert all(more <= most for more, most in zip(extra, in_flight, strict=True))


def test_16_infrastructure_that_never_starts(chain: Chain, job: str) -> None:
    """What starts after all, when the job has been given up, ends before it does anything."""
    model = chain.models.model()
    with chain.sensor(SWATH_START_TIMEOUT="5"):
        chain.send(job, model, SMALL)
        run = image_run(chain, job)
        with chain.prefect.holding(starts_running(run)):
            assert chain.await_end(job) == "FAILED"
        assert "SWATH_START_TIMEOUT" in chain.reason(job)
    with chain.sensor():  # the next image is not held up
        chain.send(f"{job}-next", chain.models.model(), SMALL)
        assert chain.await_end(f"{job}-next") == "SUCCESS"
    until(lambda: not processes_of([run]))
    assert model.figures().total == 0
    assert chain.statuses(job) == ["FAILED"]
    assert chain.published(job) == []


def test_17_the_worker_is_killed_between_pending_and_running(chain: Chain, job: str) -> None:
    """The run keeps the slot of its deployment, and no process."""
    model = chain.models.model()
    with chain.sensor():
        chain.send(job, model, SMALL)
        with chain.prefect.holding(starts_running(image_run(chain, job))) as held:
            until(lambda: held.calls)
            chain.kill_worker()
    with chain.sensor(SWATH_START_TIMEOUT="5"):
        until(lambda: image_run(chain, job).state_type == StateType.SCHEDULED)
    with chain.sensor():
        chain.start_worker()
        assert chain.await_end(job) == "SUCCESS"
    assert model.figures().extra == 0
