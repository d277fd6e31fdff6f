"""Models that are asked for several views of each tile, and whole jobs of models over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

from tasks.errors import RequestError
from tasks.inference.tile_decoding import decode_tile
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tests.infer_tiles import infer_tiles
from tests.raster_calls import LEFT, SIDE, TOP, OpenRaster, answer, tile
from tests.raster_server import NPY, TIFF, RasterServer, Reply, encoded

CLASSES = {"values": "classes", "classes": [{"value": 1, "name": "water"}]}
LOOSE = {"values": "values"}


def height_of(pixels: NDArray[Any]) -> NDArray[Any]:
    """A raster that depends on each pixel and its neighbours, alike in all directions."""
    grey = np.pad(pixels.sum(axis=0, dtype=np.int64), 1, "edge")
    cross = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1]
    raster: NDArray[Any] = (grey[1:-1, 1:-1] / 3 + cross / 7)[np.newaxis].astype(np.float32)
    return raster


@pytest.mark.parametrize("tile_format", ["GTIFF", "NITF", "NPY", "PNG"])
@pytest.mark.parametrize("augmentation", ["flips", "turns"])
@pytest.mark.parametrize("shape", [(SIDE, SIDE), (20, 31)])
def test_a_model_alike_in_all_directions_answers_the_same_in_all_views(
    raster_model: RasterServer,
    open_raster: OpenRaster,
    tile_format: str,
    augmentation: str,
    shape: tuple[int, int],
) -> None:
    raster_model.models(NPY, height_of)
    seen, output = tile(*shape, masked=True), LOOSE | {"augmentation": augmentation}
    alone = answer(open_raster(LOOSE, imageProcessorTileFormat=tile_format), LOOSE, seen)
    raster_model.tiles.clear()
    endpoint = open_raster(output, imageProcessorTileFormat=tile_format)
    np.testing.assert_array_equal(answer(endpoint, output, seen), alone)
    sent = {decode_tile(each).tobytes() for each in raster_model.tiles}
    assert len(raster_model.tiles) == len(sent) == (4 if augmentation == "flips" else 8)
    if tile_format == "GTIFF":
        corners = set()
        for each in raster_model.tiles:
            with MemoryFile(each) as file, file.open() as dataset:
                corners.add(dataset.transform * (0, 0))
        assert corners == {(LEFT + 40, TOP - 70)}


def test_the_mean_of_all_views_is_kept(raster_model: RasterServer, open_raster: OpenRaster) -> None:
    def lit(pixels: NDArray[Any]) -> NDArray[Any]:
        """Answers more at the left and, less so, at the top."""
        _, height, width = pixels.shape
        return (np.arange(width) + 100.0 * np.arange(height)[:, None])[np.newaxis]

    raster_model.models(TIFF, lit)
    output = LOOSE | {"augmentation": "flips"}
    middle = (20 - 1) / 2 + 100 * (10 - 1) / 2
    assert (answer(open_raster(output), output, tile(10, 20)) == middle).all()


def test_each_view_is_a_call_in_the_ledger_and_none_is_repeated(
    raster_model: RasterServer, open_raster: OpenRaster
) -> None:
    def third_fails(pixels: NDArray[Any]) -> Reply:
        if len(raster_model.tiles) == 3:
            return 500, "text/plain", b"a bad moment"
        return 200, NPY, encoded(height_of(pixels), NPY)

    raster_model.replies(NPY, b"")
    raster_model.answer = third_fails
    output = LOOSE | {"augmentation": "flips"}
    (row,) = infer_tiles([tile()], open_raster(output)).ledger.to_pylist()
    assert (row["state"], row["attempts"], len(row["failed_calls"])) == ("inferred", 5, 1)
    assert len(raster_model.tiles) == 5


def test_after_a_bad_answer_no_other_view_is_asked_for(
    raster_model: RasterServer, open_raster: OpenRaster
) -> None:
    raster_model.replies(NPY, b"nothing")
    endpoint = open_raster(LOOSE | {"augmentation": "turns"})
    (row,) = infer_tiles([tile()], endpoint).ledger.to_pylist()
    assert (row["state"], row["attempts"], len(raster_model.tiles)) == ("failed", 1, 1)


@pytest.mark.parametrize("augmentation", ["none", "turns"])
def test_a_small_image_is_reflected_to_a_full_tile(
    raster_model: RasterServer, open_raster: OpenRaster, augmentation: str
) -> None:
    raster_model.models(NPY, height_of)
    output = LOOSE | {"fullTiles": True, "augmentation": augmentation}
    small = tile(11, 30)
    found = answer(open_raster(output), output, small)
    np.testing.assert_array_equal(found, height_of(small.pixels))
    assert {decode_tile(each).shape for each in raster_model.tiles} == {(3, SIDE, SIDE)}


def job(scene: Path, out: str, name: str, kind: str, **fields: Any) -> Request:
    message = {
        "jobId": "job",
        "imageUrls": [str(scene)],
        "outputs": [{"type": "File", "path": str(scene.parent / out)}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorTileSize": 128,
        "imageProcessorTileOverlap": 40,
        "imageProcessorTileFormat": "GTIFF",
    }
    return Request.parse(json.dumps(message | fields))


@pytest.fixture
def scene(allowed: Path) -> Path:
    path = allowed / "scene.tif"
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 54e5, 1, 1)}
    with rasterio.open(
        path, "w", driver="GTiff", width=300, height=220, count=3, dtype="uint8", **place
    ) as dataset:
        coarse = np.random.default_rng(1).integers(1, 255, (3, 11, 15), np.uint8)
        dataset.write(np.kron(coarse, np.ones((1, 20, 20), np.uint8)))
    return path


def pixels(scene: Path, out: str) -> NDArray[Any]:
    with rasterio.open(scene.parent / out / "scene.tif.tif") as dataset:
        found: NDArray[Any] = dataset.read(1)
    return found


def test_the_built_in_model_answers_alike_in_process_and_over_http(
    scene: Path, models: str
) -> None:
    built_in = job(scene, "own", "brightness-classes", "BUILTIN")
    assert work_image(built_in, str(scene)).status is JobStatus.SUCCESS
    classes = [{"value": number, "name": f"class {number}"} for number in (1, 2, 3)]
    output = {"values": "probabilities", "classes": classes}
    url = f"{models}/brightness-classes/invocations"
    served = job(scene, "http", url, "HTTP_ENDPOINT", rasterOutput=output)
    assert work_image(served, str(scene)).status is JobStatus.SUCCESS
    found = pixels(scene, "own")
    assert set(np.unique(found).tolist()) == {1, 2, 3}
    np.testing.assert_array_equal(pixels(scene, "http"), found)


def test_all_views_are_counted_in_the_summary(scene: Path, raster_model: RasterServer) -> None:
    raster_model.models(NPY, height_of)
    output = LOOSE | {"augmentation": "flips"}
    summary = work_image(
        job(scene, "out", raster_model.url, "HTTP_ENDPOINT", rasterOutput=output), str(scene)
    )
    assert summary.status is JobStatus.SUCCESS
    assert (summary.calls, summary.failed_calls) == (len(raster_model.tiles), 0)
    assert summary.calls == 4 * summary.tiles["inferred"]


@pytest.mark.parametrize(
    ("kind", "output", "told"),
    [
        ("HTTP_ENDPOINT", {"blend": "max"}, r"rasterOutput\.values: is missing; say .* values\."),
        (
            "BUILTIN",
            {"classes": CLASSES["classes"]},
            r"rasterOutput\.values: is missing; say .* values\.",
        ),
        ("BUILTIN", CLASSES, "the built-in model flood finds objects; leave it out"),
    ],
)
def test_what_cannot_be_is_refused_before_any_tile(
    scene: Path, raster_model: RasterServer, kind: str, output: dict[str, Any], told: str
) -> None:
    raster_model.replies(NPY, b"")
    name = "flood" if kind == "BUILTIN" else raster_model.url
    with pytest.raises(RequestError, match=told):
        work_image(job(scene, "out", name, kind, rasterOutput=output), str(scene))
    assert raster_model.tiles == []


def test_a_tile_whose_raster_takes_too_much_memory_is_refused(
    allowed: Path, raster_model: RasterServer
) -> None:
    wide = allowed / "wide.tif"
    shape = {"width": 4096, "height": 4096, "count": 1, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(wide, "w", driver="GTiff", **shape, transform=from_origin(9, 9, 2, 2)):
        pass
    output = {"values": "values", "bands": ["a", "b", "c"]}
    fields = {"rasterOutput": output, "imageProcessorTileSize": 4096}
    with pytest.raises(RequestError, match=r"imageProcessorTileSize: the raster .* takes 201 MB"):
        work_image(job(wide, "out", raster_model.url, "HTTP_ENDPOINT", **fields), str(wide))
