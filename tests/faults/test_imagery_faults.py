"""What becomes of a job whose image is missing, broken, odd, or changes while it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin

from tasks.errors import RequestError
from tasks.job import work_image
from tasks.settings import settings
from tests.chain import Chain
from tests.counting_model import CountingModels
from tests.faults.conftest import IMAGE
from tests.faulty_proxy import Answer, Call, Forward, status
from tests.job_scene import ledger, paint, request
from tests.polling import until


def reads(name: str, *methods: str) -> Any:
    """Whether a call reads an image."""
    return lambda call: call.path.split("?")[0].endswith(f"/{name}") and call.method in methods


@pytest.mark.slow_fault
def test_18_missing_denied_truncated_a_directory_or_zero_bytes(
    chain: Chain, job: str, tmp_path: Path
) -> None:
    model = chain.models.model()
    whole = paint(tmp_path / "whole.tif", 420, 340).read_bytes()
    bodies = {
        "truncated": whole[:300],
        "cut": whole[: 2 * len(whole) // 3],  # in the middle of its pixels
        "empty": b"",
        "folder/inside": whole,
    }
    for name, body in bodies.items():
        (tmp_path / "file").write_bytes(body)
        chain.upload(tmp_path / "file", f"{job}/{name}")
    chain.upload(tmp_path / "whole.tif", f"{job}/denied")
    wrong = ["missing", "denied", "truncated", "cut", "folder", "empty"]
    denied = chain.aws.failing(reads(f"{job}/denied", "GET", "HEAD"), status(403, "AccessDenied"))
    with chain.sensor(), denied:
        for name in wrong:
            chain.send(f"{job}-{name}", model, f"{job}/{name}")
        for name in wrong:
            assert chain.await_end(f"{job}-{name}") == "FAILED", name
            assert f"{job}/{name}" in chain.reason(f"{job}-{name}")
            assert chain.published(f"{job}-{name}") == []
    assert model.figures().total == 0


@pytest.mark.slow_fault
def test_19_s3_answers_503_then_works(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    name = chain.copy(IMAGE, f"{job}.tif")
    model = chain.models.model()
    model.answer_only(10)
    heads = chain.aws.failing(reads(name, "HEAD"), status(503), times=2)
    with chain.sensor(), heads:
        chain.send(job, model, name)
        until(lambda: model.figures().answered == 10)
        with chain.aws.failing(reads(name, "GET"), status(503), times=6) as faults:
            model.answer_all()
            assert chain.await_end(job) == "SUCCESS"
    assert faults.calls == 6
    assert chain.features(job, name) == expected
    assert model.figures().extra == 0


def zeros(_: Call, forward: Forward) -> Answer:
    """As many bytes as were asked for, all of them zero."""
    answer = forward()
    return Answer(answer.status, bytes(len(answer.body)), answer.headers)


@pytest.mark.slow_fault
def test_20_blank_pixels_without_an_exception(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    name = f"{job}.tif"
    packed = chain.folder / name
    copy(chain.folder / IMAGE, packed, driver="GTiff", compress="deflate", tiled=True)
    chain.upload(packed, name)
    model = chain.models.model()
    model.answer_only(10)
    with chain.sensor():
        chain.send(job, model, name)
        until(lambda: model.figures().answered == 10)
        with chain.aws.failing(reads(name, "GET"), zeros, times=2) as faults:
            model.answer_all()
            assert chain.await_end(job) == "SUCCESS"
    assert faults.calls == 2
    assert chain.features(job, name) == expected
    assert model.figures().extra == 0


@pytest.mark.slow_fault
def test_21_the_object_is_replaced_midway(
    chain: Chain, job: str, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    """No result mixes two versions; sent again, the new one is worked from the beginning."""
    name = chain.copy(IMAGE, f"{job}.tif")
    model = chain.models.model()
    model.answer_only(10)
    with chain.sensor():
        body = chain.send(job, model, name)
        until(lambda: model.figures().answered == 10)
        with rasterio.open(chain.folder / IMAGE) as old:
            pixels, profile = old.read(), old.profile
        pixels[:, 310:, 310:] = 30 + pixels[:, 310:, 310:] % 7
        with rasterio.open(tmp_path / "new.tif", "w", **profile) as new:
            new.write(pixels)
        chain.upload(tmp_path / "new.tif", name)
        model.answer_all()
        if chain.await_end(job) == "SUCCESS":  # all was read before
            assert chain.features(job, name) == expected
        else:
            assert "replaced" in chain.reason(job)
        chain.resend(body)
        assert chain.await_end(job, times=2) == "SUCCESS"
    found = chain.features(job, name)
    assert found == [each for each in expected if min(each["imageBBox"][:2]) < 310]


# Images of odd sizes, worked in this process


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [(50, 40, 1), (1, 300, 3), (300, 1, 3), (1, 1, 1), (301, 211, 6)],
    ids=["smaller than a tile", "one pixel wide", "one high", "one pixel", "not divisible"],
)
def test_22_an_image_of_an_odd_size(
    folder: Path, models: CountingModels, width: int, height: int, tiles: int
) -> None:
    image, model = folder / "scene.tif", models.model()
    shape = {"width": width, "height": height, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 54e5, 0.5, 0.5)}
    with rasterio.open(image, "w", driver="GTiff", **shape, **place) as sink:
        sink.write(np.random.default_rng(0).integers(9, 99, (3, height, width), np.uint8))
    summary = work(image, model.url)
    assert summary.status == "SUCCESS"
    assert summary.covered == 1
    assert len(ledger(folder / "out")) == model.figures().total == tiles


def test_22_a_region_of_interest_outside_the_image(folder: Path, models: CountingModels) -> None:
    model = models.model()
    elsewhere = "POLYGON((-70 40, -70 41, -69 41, -70 40))"
    with pytest.raises(RequestError, match="regionOfInterest"):
        work(paint(folder / "scene.tif"), model.url, regionOfInterest=elsewhere)
    assert model.figures().total == 0


def work(image: Path, url: str, **fields: Any) -> Any:
    asked = request(
        image,
        image.parent / "out",
        imageProcessor={"name": url, "type": "HTTP_ENDPOINT"},
        imageProcessorTileSize=128,
        imageProcessorTileOverlap=32,
        **fields,
    )
    return work_image(asked, str(image))
