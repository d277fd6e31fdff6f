"""Rasters are the same bytes whatever the order of tiles, the batches and the regions."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flows.image import image
from tasks.request import Request
from tasks.settings import settings
from tests.counting_model import CountingModel, counting_models
from tests.job_scene import paint, request

pytestmark = pytest.mark.usefixtures("prefect_api")

CLASSES = [{"value": 1, "name": "dark"}, {"value": 2, "name": "bright"}]
RASTER = {
    "values": "probabilities",
    "classes": CLASSES,
    "scores": "float32",
    "polygons": {"minimumArea": 4},
}
FILES = ["tif", "scores.tif", "geojson"]
MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def model() -> Iterator[CountingModel]:
    """A model whose calls take different times in every run."""
    with counting_models() as models:
        model = models.model()
        model.answer_with_pixels()
        model.answer_in_any_order(0.06)
        yield model


@pytest.fixture
def asked(allowed: Path, model: CountingModel) -> Request:
    paint(allowed / "scene.tif", 1100, 1300)
    return request(
        allowed / "scene.tif",
        allowed / "out",
        imageProcessor={"name": model.url, "type": "HTTP_ENDPOINT"},
        imageProcessorTileFormat="NPY",
        rasterOutput=RASTER,
    )


def published(
    asked: Request, rows: int = 10_000, widest: int = 10_000, batch: int = 16
) -> dict[str, bytes]:
    """The bytes of each file of a run that keeps its answers apart, without the time of the run."""
    scene = Path(asked.image_urls[0])
    out = scene.parent / "out"
    shutil.rmtree(out, ignore_errors=True)  # a run is not repeated if its files are there
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_BATCH_SIZE", str(batch))
        patch.setenv("SWATH_WORK_URI", str(out.parent / uuid4().hex))
        patch.setattr("tasks.planning.plan.max_region_width", lambda *_: widest)
        settings.cache_clear()
        end: Any = image(asked, region_size=rows, return_state=True)
    settings.cache_clear()
    assert end.name == "Completed", end.message
    files = {ending: out / f"scene.tif.{ending}" for ending in FILES}
    return {ending: MOMENT.sub(b"", file.read_bytes()) for ending, file in files.items()}


@pytest.fixture
def whole(asked: Request) -> dict[str, bytes]:
    """What is published of one region."""
    return published(asked)


@examples(
    max_examples=1,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try takes seconds
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(450, 10_000, 1)
@example(700, 600, 3)
@given(
    st.sampled_from([300, 450, 700, 10_000]),
    st.sampled_from([600, 10_000]),
    st.sampled_from([1, 3, 16]),
)
def test_rasters_are_the_same_bytes_in_whatever_order_tiles_finish(
    asked: Request, whole: dict[str, bytes], rows: int, widest: int, batch: int
) -> None:
    found = published(asked, rows, widest, batch)
    for ending in FILES:
        assert found[ending] == whole[ending], ending
