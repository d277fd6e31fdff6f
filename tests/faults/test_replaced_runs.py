"""Image runs whose process dies are started again; those that were cancelled are not."""

from __future__ import annotations

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelling

from tasks.queue.sqs import send
from tests.chain import Chain, kill
from tests.faults.conftest import IMAGE
from tests.polling import until


def image_run(chain: Chain, job: str) -> FlowRun:
    (run,) = chain.image_runs(job)
    return run


def test_an_image_run_that_is_killed_is_started_again_as_the_same_run(
    chain: Chain, job: str
) -> None:
    model = chain.models.model(job)
    model.answer_only(10)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered >= 10)
        kill(chain.await_processes(job))
        until(lambda: image_run(chain, job).run_count > 1)
        model.answer_all()
        assert chain.await_end(job) == "SUCCESS"
    assert chain.statuses(job) == ["STARTED", "IN_PROGRESS"] * 2 + ["SUCCESS"]


def test_a_message_sent_again_while_nothing_lives_is_served_by_the_run_that_is_started_again(
    chain: Chain, job: str
) -> None:
    model = chain.models.model(job)
    model.answer_only(10)
    with chain.sensor():
        body = chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered >= 10)
        chain.kill_worker()  # nobody is left who could report it
        run = image_run(chain, job)
        assert run.state_name == "Running"
        send(chain.resources.queue_url, body)
        until(chain.queue_is_empty)
        model.answer_all()
        chain.start_worker()
        assert chain.await_end(job) == "SUCCESS"
    again = image_run(chain, job)
    assert (again.id, again.run_count) == (run.id, 2)
    assert chain.statuses(job) == ["STARTED", "IN_PROGRESS"] * 2 + ["SUCCESS"]
    assert places_taken(chain) == 0


def retried(chain: Chain, job: str) -> bool:
    """Press Retry, unless the run has started since; its worker may set it to Crashed once more."""
    run = image_run(chain, job)
    if run.state_name == "Crashed":
        with get_client(sync_client=True) as prefect:
            prefect.set_flow_run_state(run.id, AwaitingRetry())
    return run.run_count > 3


def started(chain: Chain, job: str) -> list[int]:
    """How often each run of a job's images was started."""
    return [run.run_count for run in chain.image_runs(job)]


def places_taken(chain: Chain) -> int:
    """Places of the image deployment that are taken."""
    with get_client(sync_client=True) as prefect:
        limit = prefect.read_deployment_by_name("image/image-local").global_concurrency_limit
    assert limit is not None
    return limit.active_slots


def test_failed_is_told_once_when_the_tries_are_used_up(chain: Chain, job: str) -> None:
    model = chain.models.model(job)
    model.answer_only(10)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        for tries in (1, 2, 3):
            until(lambda tries=tries: started(chain, job) == [tries])  # type: ignore[misc]
            kill(chain.await_processes(job))
        assert chain.await_end(job) == "FAILED"
        assert image_run(chain, job).state_name == "Crashed"
        until(lambda: all(run.state and run.state.is_final() for run in chain.region_runs(job)))
        model.answer_all()
        until(lambda: retried(chain, job))
        assert chain.await_end(job, 2) == "SUCCESS"
    assert chain.statuses(job).count("FAILED") == 1


def test_a_cancelled_image_makes_no_more_calls_and_is_not_started_again(
    chain: Chain, job: str
) -> None:
    model = chain.models.model(job)
    model.answer_only(4)
    with chain.sensor():
        chain.send(job, model, IMAGE)
        until(lambda: model.figures().answered >= 4)
        with get_client(sync_client=True) as prefect:
            prefect.set_flow_run_state(image_run(chain, job).id, Cancelling())
        until(lambda: model.figures().in_flight == 0)
        calls = model.figures().total
        assert chain.await_end(job) == "FAILED"
        until(lambda: all(run.state and run.state.is_final() for run in chain.region_runs(job)))
        until(lambda: image_run(chain, job).state_name == "Cancelled")
    assert model.figures().total == calls
    assert chain.statuses(job).count("FAILED") == 1
    assert image_run(chain, job).run_count == 1
    assert chain.published(job) == []
