"""Bands, scaling and fill of tiles: every kind of model gets the same numbers, of real images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

import swath
from tests.oip_server import oip_server
from tests.onnx_models import SHARED, describe_map, pixelwise, write_json
from tests.raster_server import NPY, RasterServer, raster_server

SENTINEL = SHARED / "data" / "sentinel2_6band.tif"
LANDSAT = SHARED / "data" / "mosaic_cog1_l8_rgb16.tif"
TILES: dict[str, Any] = {"tile_size": 256, "overlap": 0, "progress": False}
VALUES = {"values": "values", "bands": ["a", "b", "c"], "blend": "clip"}

needs_images = pytest.mark.skipif(not SENTINEL.exists(), reason="no shared/data on this machine")

Sent = Callable[..., NDArray[Any]]
"""What a model got of an image, put together: (bands, height, width)."""


@pytest.fixture(scope="module")
def server() -> Iterator[RasterServer]:
    with raster_server() as running:
        yield running


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers with the three bands it got."""
    file = tmp_path_factory.mktemp("model") / "same.onnx"
    return pixelwise(file, np.eye(3).tolist(), shape=("n", 3, 256, 256))


@pytest.fixture(scope="module")
def served(same: Path) -> Iterator[str]:
    """The URL of that model on a server of the Open Inference Protocol."""
    with oip_server(same=same) as address:
        yield f"{address}/v2/models/same"


@pytest.fixture(params=["function", "HTTP", "ONNX", "OIP"])
def sent(request: pytest.FixtureRequest, server: RasterServer, same: Path) -> Sent:
    """A model of each kind that answers with the three bands it got, as values."""

    def describe_same(pixel_type: str) -> Path:
        raster = {"values": "values", "names": ["a", "b", "c"], "pixel_types": [pixel_type]}
        described = describe_map(raster, task="regression", shape=(-1, 3, 256, 256))
        return write_json(same.with_suffix(".json"), described)

    def run(image: Path, *, pixel_type: str, **options: Any) -> NDArray[Any]:
        if request.param == "HTTP":
            server.models(NPY, lambda pixels: pixels.astype(np.float32))
            options |= {"model": server.url, "type": "HTTP_ENDPOINT", "tile_format": "GTIFF"}
        elif request.param == "ONNX":
            describe_same(pixel_type)
            options["model"] = same
        elif request.param == "OIP":
            options |= {"model": request.getfixturevalue("served"), "type": "OIP_ENDPOINT"}
            options["parameters"] = {"description": str(describe_same(pixel_type))}
        else:
            options["model"] = lambda tiles: tiles.astype(np.float32)
        raster = {"blend": "clip"} if request.param in ("ONNX", "OIP") else VALUES
        result = swath.run(image, raster=raster, **(TILES | options))
        assert result.summary.status == "SUCCESS", result.summary.message
        with rasterio.open(result.raster) as dataset:
            pixels: NDArray[Any] = dataset.read()
        return pixels

    return run


def stored(image: Path, *bands: int) -> NDArray[np.float64]:
    with rasterio.open(image) as dataset:
        pixels: NDArray[np.float64] = dataset.read(bands).astype(np.float64)
    return pixels


def stretched(pixels: NDArray[Any], low: Any, high: Any, largest: float) -> NDArray[Any]:
    low, high = (np.reshape(each, (-1, 1, 1)) for each in (low, high))
    return np.asarray(np.clip((pixels - low) / (high - low), 0, 1) * largest)


@needs_images
def test_bands_by_number_between_percentiles_of_the_whole_image(sent: Sent) -> None:
    got = sent(SENTINEL, pixel_type="uint8", bands=[4, 3, 2], scale="percentile:2,98")
    bands = stored(SENTINEL, 4, 3, 2)
    low, high = np.percentile(bands, [2, 98], axis=(1, 2))
    assert np.abs(got - stretched(bands, low, high, 255)).max() <= 0.5 + 1e-3
    assert set(np.unique(got)) <= set(range(256))


@needs_images
def test_bands_by_name_from_one_value_to_another_as_float(sent: Sent) -> None:
    options = {"bands": "red,green,blue", "scale": "linear:0,0.4:float32"}
    got = sent(SENTINEL, pixel_type="float32", **options)
    expected = stretched(stored(SENTINEL, 3, 2, 1), 0, 0.4, 1)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@needs_images
def test_z_scores_of_pixels_that_hold_data_and_what_the_others_hold(sent: Sent) -> None:
    got = sent(LANDSAT, pixel_type="float32", scale="z-score", fill=7000)
    bands = stored(LANDSAT, 1, 2, 3)
    valid = (bands != 0).any(axis=0)
    assert 0.05 < valid.mean() < 0.95
    mean, std = bands[:, valid].mean(axis=1), bands[:, valid].std(axis=1)
    filled = np.where(valid, bands, 7000)
    expected = (filled - mean[:, None, None]) / std[:, None, None]
    answered = np.isfinite(got).all(axis=0)  # all but blank tiles
    assert (answered | ~valid).all()
    assert (answered & ~valid).any()
    np.testing.assert_allclose(got[:, answered], expected[:, answered], atol=1e-4)


@needs_images
def test_regions_of_any_size_get_the_same_and_the_results_say_what(tmp_path: Path) -> None:
    seen: dict[int, list[bytes]] = {}
    for rows in (256, 512):
        found = seen.setdefault(rows, [])

        def model(tiles: NDArray[Any], found: list[bytes] = found) -> list[NDArray[Any]]:
            found += [tile.tobytes() for tile in tiles]
            return [np.array([[10, 10, 60, 40]])] * len(tiles)

        options = TILES | {"bands": ["nir", 3], "scale": "percentile:5,95", "region_size": rows}
        result = swath.run(SENTINEL, model=model, out=tmp_path / str(rows), **options)
        assert "sent: bands 4 (nir), 3 (red); 0." in result.summary.message
        manifest = json.loads((tmp_path / str(rows) / f"{SENTINEL.name}.swath.json").read_text())
        prepared = manifest["prepared"]
        low, high = np.percentile(stored(SENTINEL, 4, 3), [5, 95], axis=(1, 2))
        assert prepared["bands"] == [4, 3]
        assert prepared["scaling"]["minimum"] == pytest.approx(low.tolist())
        assert prepared["scaling"]["maximum"] == pytest.approx(high.tolist())
    assert sorted(seen[256]) == sorted(seen[512])
    assert len(seen[256]) == 4


def test_what_is_kept_is_asked_again_only_with_other_numbers(tmp_path: Path) -> None:
    image = _write(tmp_path / "image.tif", np.arange(3 * 64 * 64, dtype=np.uint16))
    with raster_server() as server:
        body = json.dumps({"type": "FeatureCollection", "features": []}).encode()

        def calls(**options: Any) -> int:
            server.replies("application/json", body)
            swath.run(
                image,
                model=server.url,
                type="HTTP_ENDPOINT",
                tile_format="NPY",
                out=tmp_path / "out",
                job_id="same",
                progress=False,
                **options,
            )
            return len(server.tiles)

        assert calls() == 1
        assert calls(fill=0) == 0
        assert calls(bands=[2, 1]) == 1
        assert calls(bands=[2, 1]) == 0
        assert calls(bands=[1, 2]) == 1
        assert calls(bands=[1, 2], scale="linear:0,9000") == 1
        assert calls(bands=[1, 2], scale="linear:0,9000") == 0
        assert calls(bands=[1, 2], scale="linear:0,8000") == 1
        assert calls() == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bands": [4]}, "bands: names band 4, and"),
        ({"bands": ["nir"]}, "has no band 'nir' (it has gray, undefined, undefined)"),
        ({"scale": "linear:9,1"}, "scale minimum: is not below maximum; give a lower one"),
        ({"scale": "log:9,1"}, "scale: 'log:9,1' is no scaling; give percentile:2,98"),
        (
            {"scale": {"type": "linear", "minimum": [1, 2], "maximum": [3, 4]}},
            "scale: has numbers for 2 bands, and 3 bands are sent; give one",
        ),
        ({"fill": -1}, "fill: -1 is not a value of the uint16 pixels of"),
        ({"fill": 65536}, "fill: 65536 is not a value of the uint16 pixels of"),
        ({"fill": 0.5}, "fill: 0.5 is not a value of the uint16 pixels of"),
    ],
)
def test_what_an_image_cannot_give_is_refused_before_any_tile(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    image = _write(tmp_path / "image.tif", np.arange(3 * 64 * 64, dtype=np.uint16))
    with pytest.raises(swath.SwathError) as refused:
        swath.plan(image, **options)
    assert reason in str(refused.value)


def test_a_model_that_takes_another_number_of_bands_is_refused(tmp_path: Path) -> None:
    image = _write(tmp_path / "image.tif", np.arange(3 * 64 * 64, dtype=np.uint16))
    file = pixelwise(tmp_path / "same.onnx", np.eye(3).tolist())
    write_json(tmp_path / "same.json", describe_map({"pixel_types": ["uint16"]}))
    with pytest.raises(swath.SwathError, match="bands: names 2 bands, and the model takes 3;"):
        swath.run(image, model=file, bands=[1, 2], progress=False)


def _write(path: Path, values: NDArray[Any]) -> Path:
    pixels = values.reshape(3, 64, 64)
    shape = {"count": 3, "height": 64, "width": 64, "dtype": pixels.dtype}
    place = {"crs": "EPSG:32631", "transform": from_origin(500_000, 5_700_000, 1, 1)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(pixels)
    return path
