"""The runs of a model that answers with pixels are killed: its raster is whole, or is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from deployments.local.resources import WORK_BUCKET
from tasks.aws.clients import client
from tests.chain import Chain, kill
from tests.counting_model import CountingModel
from tests.faults.conftest import IMAGE, TILES
from tests.polling import until

pytestmark = pytest.mark.slow_fault

RASTER = {
    "values": "probabilities",
    "classes": [{"value": 1, "name": "dark"}, {"value": 2, "name": "bright"}],
    "scores": "uint8",
}


def model_of(chain: Chain) -> CountingModel:
    model = chain.models.model()
    model.answer_with_pixels()
    return model


def send(chain: Chain, job: str, model: CountingModel) -> None:
    chain.send(job, model, IMAGE, rasterOutput=RASTER, imageProcessorTileFormat="NPY")


def published(chain: Chain, job: str) -> list[NDArray[Any]]:
    """The pixels of both rasters of a job."""
    pixels = []
    for ending in ("tif", "scores.tif"):
        with rasterio.open(chain.download(job, f"{IMAGE}.{ending}")) as source:
            pixels.append(source.read())
    return pixels


def scratch(chain: Chain, job: str) -> list[str]:
    """What is stored of a job while its raster is put together."""
    found = client("s3").list_objects_v2(Bucket=WORK_BUCKET, Prefix=f"jobs/{job}/")
    keys = [each["Key"] for each in found.get("Contents", [])]
    return [key for key in keys if key.rpartition("/")[2].startswith("raster.")]


@pytest.fixture(scope="module")
def whole(chain: Chain) -> list[NDArray[Any]]:
    """What is published if nothing fails."""
    with chain.sensor():
        send(chain, "whole-raster", model_of(chain))
        assert chain.await_end("whole-raster") == "SUCCESS"
    return published(chain, "whole-raster")


def test_a_region_that_is_killed_midway_is_asked_for_what_was_not_stored(
    chain: Chain, job: str, whole: list[NDArray[Any]]
) -> None:
    model = model_of(chain)
    model.answer_only(20)
    with chain.sensor():
        send(chain, job, model)
        until(lambda: model.figures().answered == chain.stored_tiles(job) == 20)
        in_flight = model.figures().in_flight
        kill(chain.await_processes(job, of_regions=True)[:1])
        model.answer_all()
        assert chain.await_end(job) == "SUCCESS"
    for found, expected in zip(published(chain, job), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert model.figures().extra <= in_flight


def test_an_image_whose_run_is_killed_when_it_publishes_asks_nothing_again(
    chain: Chain, job: str, whole: list[NDArray[Any]]
) -> None:
    model = model_of(chain)
    with chain.sensor():
        with chain.aws.holding(chain.writes_results(job)) as held:
            send(chain, job, model)
            until(lambda: held.calls)
            assert scratch(chain, job)
            kill(chain.await_processes(job))
        assert chain.await_end(job) == "SUCCESS"
    for found, expected in zip(published(chain, job), whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert model.figures().total == TILES
    assert not scratch(chain, job)
