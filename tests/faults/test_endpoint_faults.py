"""What becomes of an image when the model's endpoint fails under it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.aws import clients
from tasks.job import work_image
from tasks.reporting.summary import Summary
from tasks.settings import settings
from tests.chain_jobs import places
from tests.counting_model import CountingModel, CountingModels
from tests.job_scene import lines, paint, request
from tests.polling import until
from tests.sagemaker_runtime import Hosted, SageMaker, sagemaker

TILES = 64
"""Tiles of the scene that are sent to the model."""

SECRET = "swath"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An image, beside which results and answers are stored."""
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    yield paint(tmp_path / "scene.tif")
    settings.cache_clear()


@pytest.fixture
def expected(scene: Path, models: CountingModels) -> list[dict[str, Any]]:
    """The features if nothing fails."""
    assert run(scene, models.model(), "expected").status == "SUCCESS"
    return features(scene, "expected")


def run(scene: Path, model: CountingModel | str, out: str = "out") -> Summary:
    """Work the scene with a model behind HTTP, or with a SageMaker endpoint by its name."""
    processor = (
        {"name": model, "type": "SM_ENDPOINT"}
        if isinstance(model, str)
        else {"name": model.url, "type": "HTTP_ENDPOINT"}
    )
    asked = request(
        scene,
        scene.parent / out,
        imageProcessor=processor,
        imageProcessorTileSize=128,
        imageProcessorTileOverlap=32,
    )
    return work_image(asked, str(scene), region_rows=300)


def features(scene: Path, out: str = "out") -> list[dict[str, Any]]:
    return places(json.loads((scene.parent / out / "scene.tif.geojson").read_text()))


def failed(scene: Path) -> list[dict[str, Any]]:
    """The lines of the ledger of the tiles that failed."""
    return [line for line in lines(scene.parent / "out") if line["state"] == "failed"]


@pytest.mark.parametrize("status", [429, 503])
def test_23_throttled_with_retry_after(
    scene: Path, models: CountingModels, expected: list[dict[str, Any]], status: int
) -> None:
    model = models.model()
    model.fail(status=status, headers={"Retry-After": "1"}, times=20)
    assert run(scene, model).status == "SUCCESS"
    assert features(scene) == expected
    assert model.figures().total == TILES + 20


def test_24_a_500_for_one_tile_only(
    scene: Path, models: CountingModels, expected: list[dict[str, Any]]
) -> None:
    model = models.model()
    model.fail(status=500, tiles=1)
    assert run(scene, model).status == "PARTIAL"
    (line,) = failed(scene)
    assert "HTTP 500" in line["reason"]
    assert model.figures().total == TILES - 1 + line["attempts"]
    model.work()
    calls = model.figures().total
    assert run(scene, model).status == "SUCCESS"
    assert features(scene) == expected
    assert model.figures().total == calls + 1


def test_25_slow_then_a_time_out_then_the_late_answer(
    scene: Path,
    models: CountingModels,
    expected: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWATH_ENDPOINT_TIMEOUT", "8")
    settings.cache_clear()
    model = models.model()
    model.fail("late", seconds=10, times=2)
    assert run(scene, model).status == "SUCCESS"
    assert features(scene) == expected
    assert model.figures().extra >= 2
    until(lambda: model.figures().in_flight == 0)  # the late answers, to nobody


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("malformed", "not JSON"),
        ("wrong schema", "not a GeoJSON FeatureCollection"),
        ("huge", "bytes"),
    ],
)
def test_26_an_answer_that_cannot_be_read(
    scene: Path, models: CountingModels, expected: list[dict[str, Any]], answer: str, reason: str
) -> None:
    model = models.model()
    model.fail(answer, tiles=1)
    assert run(scene, model).status == "PARTIAL"
    (line,) = failed(scene)
    assert reason in line["reason"]
    model.work()
    assert run(scene, model).status == "SUCCESS"
    assert features(scene) == expected


@pytest.mark.parametrize("answer", ["nan", "outside"])
def test_26_an_answer_with_a_feature_that_cannot_be(
    scene: Path, models: CountingModels, expected: list[dict[str, Any]], answer: str
) -> None:
    model = models.model()
    model.fail(answer, tiles=1)
    summary = run(scene, model)
    assert summary.status == "SUCCESS"
    assert summary.rejected == 1
    assert features(scene) == expected


def test_26_an_answer_with_100_000_boxes(scene: Path, models: CountingModels) -> None:
    model = models.model()
    model.fail("flood", tiles=1)
    assert run(scene, model).status == "SUCCESS"
    assert model.figures().extra == 0
    tiles = lines(scene.parent / "out")
    assert max(line["detections"] + line["without_data"] for line in tiles) == 100_000


# Endpoints of SageMaker


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes an access key to the file that the process's credentials are read from."""
    file = tmp_path / "credentials"

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={SECRET}\n")

    write("OLD")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return write


@pytest.fixture
def aws(keys: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMaker]:
    """An emulated SageMaker, which accepts the keys."""
    with sagemaker(SECRET) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
        clients.renew_credentials()
        yield server
    clients.renew_credentials()


def hosted(model: CountingModel, configuration: str = "first") -> Hosted:
    """An endpoint of one variant before a counting model."""
    variant = {"VariantName": "only", "CurrentWeight": 1.0, "CurrentInstanceCount": 2}
    told = {"ProductionVariants": [variant], "EndpointConfigName": configuration}
    return Hosted(model.url.removesuffix("/invocations"), told)


def halfway(scene: Path, model: CountingModel, then: Callable[[], None]) -> Summary:
    """Work the scene with the endpoint `ships`; half of the tiles are answered, then it goes on."""
    model.answer_only(TILES // 2)
    with ThreadPoolExecutor(1) as thread:
        summary: Future[Summary] = thread.submit(run, scene, "ships")
        until(lambda: model.figures().answered == TILES // 2 or summary.done(), summary.done)
        then()
        model.answer_all()
        return summary.result()


def test_27_the_credentials_expire_midway(
    scene: Path,
    models: CountingModels,
    expected: list[dict[str, Any]],
    aws: SageMaker,
    keys: Callable[[str], None],
) -> None:
    model = models.model()
    aws.endpoints["ships"] = hosted(model)

    def expire() -> None:
        keys("NEW")
        aws.expired.add("OLD")

    assert halfway(scene, model, expire).status == "SUCCESS"
    assert features(scene) == expected
    assert model.figures().extra == 0
    assert {call.key for call in aws.calls} == {"OLD", "NEW"}


def test_28_the_endpoint_is_deleted_midway(
    scene: Path, models: CountingModels, expected: list[dict[str, Any]], aws: SageMaker
) -> None:
    model = models.model()
    aws.endpoints["ships"] = hosted(model)
    summary = halfway(scene, model, aws.endpoints.clear)
    assert summary.status == "PARTIAL"
    assert "not found" in failed(scene)[0]["reason"]
    aws.endpoints["ships"] = hosted(model)
    assert run(scene, "ships").status == "SUCCESS"
    assert features(scene) == expected
    assert model.figures().extra == 0


def test_28_the_variant_is_changed_between_two_deliveries(
    scene: Path, models: CountingModels, aws: SageMaker
) -> None:
    """What another model answered is no part of the result."""
    first, second = models.model(), models.model()
    first.fail(status=500, tiles=1)
    aws.endpoints["ships"] = hosted(first)
    assert run(scene, "ships").status == "PARTIAL"
    second.fail("nothing")
    aws.endpoints["ships"] = hosted(second, "second")
    assert run(scene, "ships").status == "SUCCESS"
    assert second.figures().total == TILES
    assert features(scene) == []
