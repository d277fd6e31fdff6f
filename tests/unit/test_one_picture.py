"""A model over HTTP and one in this process get the same pixels of the same image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import PIL.Image
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from tasks.errors import ImageError
from tasks.imagery import TilePixels, open_image
from tasks.imagery.reading.reduced import read_reduced
from tasks.inference import open_endpoint
from tasks.inference.endpoint import Boxes, Pixels
from tasks.inference.tile_decoding import decode_tile
from tasks.planning.plan import Plan, make_plan
from tasks.request import Request
from tasks.settings import settings
from tests.onnx_models import bright_box, describe, pixelwise, write_json
from tests.tiffs import write

SIDE = 64
EMPTY = b'{"type":"FeatureCollection","features":[]}'
COLLAR = np.zeros((SIDE, SIDE), np.bool_)
COLLAR[:, :26] = True  # 40 % of the tile


class Recorder(BaseHTTPRequestHandler):
    """Records the tiles that it is sent, and finds nothing in them."""

    protocol_version = "HTTP/1.1"
    tiles: list[bytes]

    def do_POST(self) -> None:
        self.tiles.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", str(len(EMPTY)))
        self.end_headers()
        self.wfile.write(EMPTY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def recorder() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server, and the tiles that it was sent."""
    handler = type("Recording", (Recorder,), {"tiles": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", handler.tiles  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def plan_of(image: Path, name: str, kind: str, **fields: Any) -> Plan:
    message = {
        "jobId": "job-1",
        "imageUrls": [str(image)],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorTileSize": SIDE,
        "imageProcessorTileOverlap": 0,
    }
    return make_plan(Request.parse(json.dumps(message | fields)), str(image))


def answers(plan: Plan) -> list[object]:
    """What a plan's model answers for each tile that holds data."""
    (region,) = plan.regions(SIDE)
    with closing(open_endpoint(plan.request, plan.preparation.image, 30)) as endpoint:
        return [
            endpoint.ask([endpoint.prepare(plan.preparation(tile))])[0]
            for tile in plan.read(plan.tiles_in_roi(region))
            if isinstance(tile, TilePixels) and not tile.blank
        ]


def over_http(image: Path, server: tuple[str, list[bytes]], **fields: Any) -> NDArray[Any]:
    """The pixels of an image's only tile, as a server gets them."""
    url, tiles = server
    with settings.override(local_roots=[image.parent]):
        answers(plan_of(image, url, "HTTP_ENDPOINT", **fields))
    return decode_tile(tiles[-1])


def in_process(image: Path, bands: int, dtype: str, **fields: Any) -> NDArray[Any]:
    """The pixels of an image's only tile, as an ONNX model gets them."""
    weights = np.eye(bands).tolist()
    model = pixelwise(image.parent / f"{image.stem}.onnx", weights, shape=("n", bands, SIDE, SIDE))
    document = describe({"type": "yolox"}, shape=(-1, bands, SIDE, SIDE), output="map")
    document |= {"mlm:tasks": ["regression"], "swath:raster": {"pixel_types": [dtype]}}
    document["mlm:output"] = [{"name": "map", "tasks": ["regression"]}]
    del document["swath:detector"]
    document["swath:raster"] |= {"bands": [*range(1, bands + 1)], "names": [*"abcdefg"[:bands]]}
    write_json(model.with_suffix(".json"), document)
    with settings.override(local_roots=[image.parent]):
        (answer,) = answers(plan_of(image, str(model), "ONNX", **fields))
    assert isinstance(answer, Pixels)
    return answer.bands


def noise(dtype: str, bands: int) -> NDArray[Any]:
    values = np.random.default_rng(3).integers(1, 120, (bands, SIDE, SIDE))
    return np.asarray(values.astype(dtype))


@pytest.mark.parametrize("kind", ["nodata", "requested", "mask", "nan"])
@pytest.mark.parametrize("tile_format", ["GTIFF", "NPY"])
def test_both_get_the_fill_value_where_there_is_no_data(
    tmp_path: Path, recorder: tuple[str, list[bytes]], kind: str, tile_format: str
) -> None:
    pixels = noise("float32" if kind == "nan" else "int16", 3)
    stored = pixels.copy()
    stored[:, COLLAR] = {"mask": 7, "nan": np.nan}.get(kind, -9999)
    options = {"nodata": -9999} if kind == "nodata" else {}
    file = write(tmp_path / "a.tif", stored, ~COLLAR if kind == "mask" else None, **options)
    fields: dict[str, Any] = {"imageNodata": -9999} if kind == "requested" else {}
    wanted = np.where(COLLAR, 0, pixels)
    sent = over_http(file, recorder, imageProcessorTileFormat=tile_format, **fields)
    np.testing.assert_array_equal(sent, wanted)
    np.testing.assert_array_equal(in_process(file, 3, pixels.dtype.name, **fields), wanted)


def test_pixels_of_transparent_colours_are_without_data(
    tmp_path: Path, recorder: tuple[str, list[bytes]]
) -> None:
    indices = np.where(COLLAR, 5, noise("uint8", 1)[0] + 10).astype(np.uint8)
    picture = PIL.Image.fromarray(indices, "P")
    picture.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    file = tmp_path / "a.png"
    picture.save(file, transparency=bytes([0] * 10 + [255] * 246))
    wanted = np.where(COLLAR, 0, np.stack([indices, 255 - indices, np.full_like(indices, 7)]))
    sent = over_http(file, recorder, imageProcessorTileFormat="GTIFF")
    np.testing.assert_array_equal(sent, wanted)
    np.testing.assert_array_equal(in_process(file, 3, "uint8"), wanted)
    with MemoryFile(recorder[1][-1]) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.dataset_mask() != 0, ~COLLAR)
    assert open_image(str(file), roots=[tmp_path]).no_data == "transparent colours"


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos4"])
def test_resizing_makes_no_ghost_along_a_collar(tmp_path: Path, method: str) -> None:
    pixels = np.full((3, SIDE, SIDE), 125, np.int16)
    pixels[:, 20:28, 40:50] = 200
    pixels[:, COLLAR] = -9999
    file = write(tmp_path / "a.tif", pixels, nodata=-9999)
    model = bright_box(tmp_path / "m.onnx", shape=(1, 3, 128, 128))
    detector = {"type": "torchvision", "pixel_types": ["int16"], "score_threshold": 0.5}
    document = describe(
        detector,
        shape=(1, 3, 128, 128),
        output=None,
        first_class=1,
        resize_type=f"interpolation-{method}",
    )
    write_json(model.with_suffix(".json"), document)
    with settings.override(local_roots=[tmp_path]):
        (found,) = answers(plan_of(file, str(model), "ONNX"))
    assert isinstance(found, Boxes)
    np.testing.assert_allclose(found.boxes, [[40, 20, 50, 28]], atol=3)  # the kernel widens it


PALETTE = {value: (value, 255 - value, value * 7 % 256, 255) for value in range(256)}


def seen(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The colours of pixels in that table."""
    table = np.array([PALETTE[value][:3] for value in range(256)], np.uint8)
    return np.moveaxis(table[pixels[0]], -1, 0)


@pytest.mark.parametrize("tile_format", ["GTIFF", "NITF", "PNG", "NPY"])
def test_both_get_the_colours_of_a_palette(
    tmp_path: Path, recorder: tuple[str, list[bytes]], tile_format: str
) -> None:
    pixels = noise("uint8", 1)
    pixels[:, COLLAR] = 77
    file = write(tmp_path / "a.tif", pixels, photometric="palette", nodata=77)
    with rasterio.open(file, "r+") as dataset:
        dataset.write_colormap(1, PALETTE)
    wanted = np.where(COLLAR, 0, seen(pixels))
    wanted[:, pixels[0] == 77] = 0
    sent = over_http(file, recorder, imageProcessorTileFormat=tile_format)
    np.testing.assert_array_equal(sent, wanted)
    np.testing.assert_array_equal(in_process(file, 3, "uint8"), wanted)


@pytest.mark.parametrize(("dtype", "black"), [("uint8", 255), ("uint16", 65_535)])
def test_both_get_an_image_whose_white_is_0_as_it_looks(
    tmp_path: Path, recorder: tuple[str, list[bytes]], dtype: str, black: int
) -> None:
    pixels = noise(dtype, 1)
    pixels[:, COLLAR] = 0
    file = write(tmp_path / "a.tif", pixels, photometric="miniswhite", nodata=0)
    wanted = np.where(COLLAR, 0, black - pixels)
    sent = over_http(file, recorder, imageProcessorTileFormat="GTIFF")
    np.testing.assert_array_equal(sent, wanted)
    np.testing.assert_array_equal(in_process(file, 1, dtype), wanted)
    reduced = read_reduced(open_image(str(file), roots=[tmp_path]), SIDE)
    assert reduced is not None
    np.testing.assert_array_equal(reduced.pixels[:, ~COLLAR], wanted[:, ~COLLAR])


def test_a_geotiff_tile_has_the_names_scales_and_offsets_of_its_image(
    tmp_path: Path, recorder: tuple[str, list[bytes]]
) -> None:
    file = write(tmp_path / "a.tif", noise("int16", 2))
    with rasterio.open(file, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.0001, 0.0001), (-0.1, 0)
        dataset.descriptions = ("red", "nir")
    over_http(file, recorder, imageProcessorTileFormat="GTIFF")
    with rasterio.MemoryFile(recorder[1][-1]) as memory, memory.open() as dataset:
        assert dataset.descriptions == ("red", "nir")
        assert (dataset.scales, dataset.offsets) == ((0.0001, 0.0001), (-0.1, 0))


def test_a_jpeg_that_viewers_turn_is_refused(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(np.zeros((30, 20, 3), np.uint8))
    exif = PIL.Image.Exif()
    for orientation in (1, 6):
        exif[0x0112] = orientation
        picture.save(tmp_path / f"{orientation}.jpg", exif=exif)
    assert open_image(str(tmp_path / "1.jpg"), roots=[tmp_path]).size == (20, 30)
    with pytest.raises(ImageError, match=r"EXIF orientation 6: .*-auto-orient"):
        open_image(str(tmp_path / "6.jpg"), roots=[tmp_path])
