"""What becomes of an image when processes of its runs, or the worker's, die or never start."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import pytest
from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from tests.chain import Chain, kill
from tests.faults.conftest import IMAGE, TILES
from tests.polling import until

pytestmark = pytest.mark.slow_fault


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
