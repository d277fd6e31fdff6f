"""Two messages of one job that ask the model the same: no tile is paid for twice."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from deployments.local.resources import RESULT_BUCKET
from tests.chain import Chain, kill, processes_of
from tests.counting_model import CountingModel
from tests.faults.conftest import IMAGE, TILES
from tests.polling import until

pytestmark = pytest.mark.slow_fault


def send_unmerged(chain: Chain, job: str, model: CountingModel) -> str:
    """Send a request that differs in merging and outputs; returns where it publishes."""
    where = f"{job}-unmerged"
    chain.send(
        job,
        model,
        IMAGE,
        outputs=[{"type": "S3", "bucket": RESULT_BUCKET, "prefix": where}],
        postProcessing=[{"algorithm": {"algorithmType": "NONE"}}],
    )
    return where


def waiting(chain: Chain, job: str) -> list[FlowRun]:
    """The image runs that say that they wait for another one."""
    runs = chain.image_runs(job)
    of_runs = ArtifactFilterFlowRunId(any_=[run.id for run in runs])
    with get_client(sync_client=True) as prefect:
        shown = prefect.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=of_runs))
    waits = {each.flow_run_id for each in shown if "waits for another" in str(each.description)}
    return [run for run in runs if run.id in waits]


def two_at_work(chain: Chain, job: str, model: CountingModel) -> tuple[FlowRun, FlowRun, str]:
    """Have two runs of a job's image: one asks, the other waits; and where one publishes."""
    model.answer_only(10)
    chain.send(job, model, IMAGE)
    where = send_unmerged(chain, job, model)
    until(lambda: len(waiting(chain, job)) == 1, lambda: chain.image_runs(job))
    until(lambda: chain.stored_tiles(job) == 10, lambda: chain.stored_tiles(job))
    (waits,) = waiting(chain, job)
    (asks,) = [run for run in chain.image_runs(job) if run.id != waits.id]
    return asks, waits, where


def cancel(run: FlowRun) -> None:
    with get_client(sync_client=True) as prefect:
        prefect.set_flow_run_state(run.id, Cancelling())


def await_end_of(chain: Chain, job: str, runs: list[FlowRun]) -> None:
    """Wait until runs of a job have ended, and none of them can begin any more."""
    ids = {run.id for run in runs}

    def ended() -> bool:
        now = [run for run in (*chain.image_runs(job), *chain.region_runs(job)) if run.id in ids]
        over = all(run.state is not None and run.state.is_final() for run in now)
        return over and not processes_of(runs)

    until(ended)


def ends(chain: Chain, job: str) -> list[str]:
    return sorted(chain.await_end(job, number) for number in (1, 2))


def test_each_has_its_own_results_of_the_same_answers(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    model = chain.models.model()
    with chain.sensor():
        _, _, where = two_at_work(chain, job, model)
        model.answer_all()
        assert ends(chain, job) == ["SUCCESS"] * 2
        assert model.figures().total == TILES
    assert chain.features(job, IMAGE) == expected
    assert len(chain.features(where, IMAGE)) > len(expected)  # with what other tiles saw too


def test_the_run_that_asks_is_killed(chain: Chain, job: str) -> None:
    model = chain.models.model()
    with chain.sensor():
        asks, _, _ = two_at_work(chain, job, model)
        kill(processes_of([asks]))
        regions = chain.region_runs(job)
        await_end_of(chain, job, regions)
        model.answer_all()
        assert ends(chain, job) == ["SUCCESS"] * 2
    assert model.figures().extra <= model.figures().abandoned  # in flight when regions ended


def test_the_run_that_asks_is_cancelled(chain: Chain, job: str) -> None:
    model = chain.models.model()
    with chain.sensor():
        asks, _, _ = two_at_work(chain, job, model)
        cancel(asks)
        regions = chain.region_runs(job)
        await_end_of(chain, job, [asks, *regions])
        model.answer_all()
        assert ends(chain, job) == ["FAILED", "SUCCESS"]
    assert model.figures().extra <= model.figures().abandoned  # in flight when regions ended


def test_the_run_that_waits_is_cancelled(chain: Chain, job: str) -> None:
    model = chain.models.model()
    with chain.sensor():
        _, waits, _ = two_at_work(chain, job, model)
        cancel(waits)
        assert chain.await_end(job) == "FAILED"
        until(lambda: not processes_of([waits]))
        model.answer_all()
        assert chain.await_end(job, 2) == "SUCCESS"
    assert model.figures().total == TILES
