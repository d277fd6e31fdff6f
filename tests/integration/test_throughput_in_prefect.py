"""What Prefect records of throughput: real runs, limits and work pools."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.region import region
from flows.throughput import throughput_of
from tasks.grid.tiles import Grid
from tasks.planning.throughput import Throughput, untimed_tile_seconds
from tasks.request import EndpointType, Request
from tasks.settings import settings

pytestmark = pytest.mark.usefixtures("prefect_api")

GRID = Grid(5000, 5000, 1024, 50)
MEGAPIXEL = 1024 * 1024
UNTIMED = untimed_tile_seconds(EndpointType.SM_ENDPOINT)


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def model() -> str:
    """A model that nobody has asked."""
    return f"model-{uuid4()}"


@flow
def asking(model: str, most: int) -> Throughput:
    message = {
        "jobId": "job-1",
        "imageUrls": ["s3://images/a.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": model, "type": "SM_ENDPOINT"},
    }
    return throughput_of(Request.model_validate(message), GRID, most)


def throughput(model: str, most: int = 100) -> Throughput:
    return asking(model, most)


def worked(
    client: SyncPrefectClient,
    model: str,
    labels: dict[str, float | str],
    state: State[None] | None = None,
    elsewhere: str | None = None,
) -> None:
    """A region's run, ended, and what it left; `elsewhere` is the model's name in its request."""
    run = client.create_flow_run(
        region,
        parameters={"request": {"imageProcessor": {"name": elsewhere or model}}},
        tags=[f"model:{model}"],
        state=state or Completed(),
    )
    client.update_flow_run_labels(run.id, dict(labels))


def figures(
    tiles: float, seconds: float | str, pixels: float = MEGAPIXEL
) -> dict[str, float | str]:
    return {
        "swath.tiles": tiles,
        "swath.tile_pixels": pixels,
        "swath.work_seconds": seconds,
    }


def deployed(
    client: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
    limit: int | None = None,
    pool: str | None = None,
) -> None:
    """Have regions run on a deployment."""
    client.create_deployment(
        client.create_flow(region),
        "there",
        work_pool_name=pool,
        concurrency_limit=limit,
    )
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/there")
    settings.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    settings.cache_clear()


def test_a_new_model_in_this_process_has_the_default_throughput(model: str) -> None:
    assert throughput(model) == Throughput(UNTIMED, 1)


def test_the_seconds_of_a_tile_are_those_of_the_models_regions(
    client: SyncPrefectClient, model: str
) -> None:
    for seconds in (20.0, 30.0, 90.0):
        worked(client, model, figures(100, seconds))
    worked(client, f"{model}-2", figures(10_000, 1.0))
    assert throughput(model).tile_seconds == pytest.approx(0.3)


def test_a_model_elsewhere_with_the_same_short_name_does_not_count(
    client: SyncPrefectClient, model: str
) -> None:
    worked(client, model, figures(100, 90.0), elsewhere=f"http://models.example/{model}")
    worked(client, model, figures(100, 20.0))
    assert throughput(model).tile_seconds == pytest.approx(0.2)


def test_the_seconds_of_a_tile_are_in_proportion_to_its_pixels(
    client: SyncPrefectClient, model: str
) -> None:
    worked(client, model, figures(100, 20.0, MEGAPIXEL / 4))
    assert throughput(model).tile_seconds == pytest.approx(0.8)


def test_only_the_last_regions_count(client: SyncPrefectClient, model: str) -> None:
    for seconds in [900.0] * 10 + [5.0] * 10:
        worked(client, model, figures(100, seconds))
    assert throughput(model).tile_seconds == pytest.approx(0.05)


@pytest.mark.parametrize(
    "labels",
    [{}, figures(0, 3.0), figures(100, 0.0), figures(100, "long"), figures(100, -4.0)],
    ids=["none", "no tiles", "no time", "no number", "negative"],
)
def test_invalid_metrics_are_ignored(
    client: SyncPrefectClient, model: str, labels: dict[str, float | str]
) -> None:
    worked(client, model, labels)
    assert throughput(model).tile_seconds == UNTIMED
    worked(client, model, figures(100, 20.0))
    assert throughput(model).tile_seconds == pytest.approx(0.2)


def test_regions_that_did_not_complete_are_ignored(client: SyncPrefectClient, model: str) -> None:
    worked(client, model, figures(100, 20.0), Failed())
    worked(client, model, figures(100, 20.0), Completed(name="Endpoint down"))
    assert throughput(model).tile_seconds == UNTIMED


@pytest.mark.parametrize(
    ("limits", "workers"),  # of the deployment, its pool, and its queue
    [
        ((None, None, None), 7),
        ((3, None, None), 3),
        ((None, 5, None), 5),
        ((8, 5, None), 5),
        ((4, 5, None), 4),
        ((4, 5, 2), 2),
        ((40, None, None), 12),
    ],
)
def test_the_lowest_limit_says_how_many_regions_run(
    client: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    limits: tuple[int | None, int | None, int | None],
    workers: int,
) -> None:
    monkeypatch.setenv("SWATH_REGION_WORKERS", "7")
    limit, pool_limit, queue_limit = limits
    pool = f"pool-{uuid4()}"
    client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=pool_limit))
    queue = client.read_work_queue_by_name("default", pool)
    limited = {"concurrency_limit": queue_limit}
    client.request(
        "PATCH", "/work_queues/{id}", path_params={"id": queue.id}, json=limited
    ).raise_for_status()
    deployed(client, monkeypatch, limit, pool)
    assert throughput(model, most=12).workers == workers


def test_a_deployment_that_does_not_exist_fails_no_image(
    monkeypatch: pytest.MonkeyPatch, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/nowhere")
    settings.cache_clear()
    assert throughput(model) == Throughput(UNTIMED, settings().region_workers)
    assert "The timing of earlier regions cannot be read" in caplog.text


def test_a_prefect_that_does_not_answer_fails_no_image(
    monkeypatch: pytest.MonkeyPatch, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/there")
    settings.cache_clear()

    nobody = SyncPrefectClient("http://127.0.0.1:9/api")
    monkeypatch.setattr("flows.throughput.get_client", lambda **_: nobody)
    assert throughput(model) == Throughput(UNTIMED, settings().region_workers)
    assert "The timing of earlier regions cannot be read" in caplog.text
