"""The picture of an image with its features: what is drawn, where, and at which cost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image as Picture
from rasterio.enums import Resampling
from rasterio.windows import Window

from tasks.errors import ImageChangedError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, open_image
from tasks.imagery.display import to_rgb
from tasks.imagery.reading.reduced import read_reduced
from tasks.publish import FeatureMetadata, ImageResults, publish
from tasks.publish.preview import FeatureLayer, draw, preview, preview_of_files
from tasks.request import FileOutput
from tasks.results import coverage, detections
from tasks.results.coverage import TileRecord, TileState
from tests.provenance import provenance

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ORANGE, BLUE, RED = (230, 159, 0), (86, 180, 233), (255, 32, 32)
LEGEND = 28  # pixels of a legend of one line


def write(path: Path, pixels: NDArray[Any], **profile: Any) -> Image:
    """Write (bands, rows, columns) as a TIFF and open it."""
    bands, height, width = pixels.shape
    profile = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6), **profile}
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, **profile}
    with rasterio.open(
        path, "w", "GTiff", width, height, bands, dtype=pixels.dtype, **profile
    ) as dataset:
        dataset.write(pixels)
    return open_image(str(path), roots=[path.parent])


def features(*rows: tuple[float, float, float, float, float, str, bytes | None]) -> pa.Table:
    """A table of x_min, y_min, x_max, y_max, score, class and geometry."""
    columns = ("x_min", "y_min", "x_max", "y_max", "score", "class_name", "geometry")
    return pa.Table.from_pylist(
        [
            {**dict(zip(columns, row, strict=True)), "tile": 0, "ordinal": n, "properties": "{}"}
            for n, row in enumerate(rows)
        ],
        schema=detections.SCHEMA,
    )


def seen(encoded: bytes) -> NDArray[np.uint8]:
    """(rows, columns, 3) the pixels of a picture above its legend."""
    return np.array(Picture.open(io.BytesIO(encoded)).convert("RGB"))[:-LEGEND]


def is_colour(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((pixels == colour).all(axis=-1))


@pytest.fixture
def black(tmp_path: Path) -> Image:
    return write(tmp_path / "black.tif", np.zeros((3, 600, 1000), np.uint8))


def test_features_are_drawn_at_their_places_in_the_colour_of_their_class(black: Image) -> None:
    triangle = shapely.Polygon([(600, 100), (800, 100), (600, 300)])
    table = features(
        (100, 200, 300, 400, 0.9, "ship", None),
        (600, 100, 800, 300, 0.8, "car", shapely.to_wkb(triangle)),
        (500, 500, 501, 501, 0.1, "ship", None),  # less than a pixel: a dot
    )
    pixels = seen(preview(black, [table], size=500))
    assert pixels.shape == (300, 500, 3)
    ship, car = is_colour(pixels, ORANGE), is_colour(pixels, BLUE)
    for y, x in ((100, 50), (150, 50), (199, 100), (120, 150)):  # on the box's sides
        assert ship[y - 1 : y + 2, x - 1 : x + 2].any()
    assert not ship[110:190, 60:140].any()  # not inside it
    assert ship[250, 250]
    assert car[100, 348:353].any()  # the diagonal of the triangle, not its box's right side
    assert not car[120:150, 399:402].any()


def test_failed_tiles_are_hatched_and_a_small_one_can_be_seen(tmp_path: Path) -> None:
    image = write(tmp_path / "wide.tif", np.zeros((1, 64, 20000), np.uint8), compress="deflate")
    tiles = [Tile(0, Window(0, 0, 64, 64)), Tile(1, Window(10000, 0, 64, 64))]
    states = [TileState.INFERRED, TileState.FAILED]
    ledger = coverage.ledger(map(TileRecord, tiles, states))
    red = is_colour(seen(preview(image, [], ledger, size=1000)), RED)
    assert red.shape == (3, 1000)
    assert red[:, 500:505].any(axis=0).all()
    assert not red[:, :499].any()
    assert not red[:, 506:].any()


def test_the_published_files_give_the_picture_of_the_detections(
    black: Image, tmp_path: Path
) -> None:
    table = features(
        *(
            (10.0 * n, 5.0 * n, 10.0 * n + 40, 5.0 * n + 30, n / 50, "ab"[n % 2], None)
            for n in range(50)
        )
    )
    tiles = [Tile(n, Window(500 * n, 0, 500, 600)) for n in (0, 1)]
    records = map(TileRecord, tiles, [TileState.INFERRED, TileState.FAILED])
    ledger = coverage.ledger(records).append_column("area_px", pa.array([3e5, 3e5]))
    results = ImageResults(
        lambda: [table], FeatureMetadata(provenance(image=black.url)), ledger, None
    )
    publish([FileOutput(type="File", path=str(tmp_path))], results, "out", [tmp_path])
    files = tmp_path / "out.parquet", tmp_path / "out.coverage.parquet"
    drawn = preview(black, [table], ledger, size=500)
    assert preview_of_files(black, *files, size=500) == drawn
    assert is_colour(seen(drawn), ORANGE).any()


def test_any_number_of_features_is_drawn_and_the_best_keep_their_shape(black: Image) -> None:
    """More outlines than are drawn: the others, whatever their order, are dots."""
    random = np.random.default_rng(3)

    def batches(order: int) -> Iterator[pa.Table]:
        count = 30_000
        corners = random.uniform(0, (900, 500), (count, 2))
        scores = np.full(count, 0.2)
        best = pa.table(
            {"x_min": [300.0], "y_min": [200.0], "x_max": [700.0], "y_max": [400.0],
             "score": [0.9], "class_name": ["best"], "geometry": pa.nulls(1, pa.binary())}
        )  # fmt: skip
        rest = pa.table(
            {
                "x_min": corners[:, 0],
                "y_min": corners[:, 1],
                "x_max": corners[:, 0] + 10,
                "y_max": corners[:, 1] + 10,
                "score": scores,
                "class_name": pa.array(["rest"] * count),
                "geometry": pa.nulls(count, pa.binary()),
            }
        )
        yield from (best, rest) if order else (rest, best)

    for order in (0, 1):
        layer = FeatureLayer(black.size, 500)
        for table in batches(order):
            layer.add(table)
        outlines = layer.outlines()
        assert len(outlines) == 4000
        assert outlines[-1].score == 0.9
        assert layer.classes == {"rest": 30_000, "best": 1}
        assert is_colour(seen(draw(black, layer, None)), BLUE)[100:200, 149:152].any()
        assert np.count_nonzero(layer.dots) > 10_000


def test_more_classes_than_colours_share_the_last_one(black: Image) -> None:
    layer = FeatureLayer(black.size, 1000)
    for n in range(400):
        layer.add(features((n, n, n + 1, n + 1, 0.5, f"class {n}", None)))
    assert layer.classes.total() == 400
    assert is_colour(seen(draw(black, layer, None)), (190, 190, 190)).any()


def test_a_jpeg_keeps_to_its_limit_of_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (3, 800, 800), np.uint8)
    image = write(tmp_path / "noise.tif", noise)
    picture = draw(image, FeatureLayer(image.size, 800), None, encoding="JPEG", max_bytes=60_000)
    assert picture[:3] == b"\xff\xd8\xff"
    assert len(picture) <= 60_000


def test_an_image_that_was_replaced_is_not_drawn(tmp_path: Path) -> None:
    image = write(tmp_path / "a.tif", np.zeros((1, 70, 70), np.uint8))
    write(tmp_path / "a.tif", np.zeros((1, 80, 80), np.uint8))
    with pytest.raises(ImageChangedError):
        preview(image, [])


def test_sixteen_bits_and_floats_are_stretched_and_nodata_is_grey(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(1000, 3000, 200), (100, 1))
    for dtype in ("uint16", "float32"):
        pixels = ramp.astype(dtype)[None]
        pixels[:, :10] = 0
        image = write(tmp_path / f"{dtype}.tif", pixels, nodata=0)
        reduced = read_reduced(image, 200)
        assert reduced is not None
        rgb = to_rgb(reduced, None, (64, 64, 64))
        assert rgb[:10].reshape(-1, 3).tolist() == [[64, 64, 64]] * 2000
        assert rgb[50, 0, 0] == 0
        assert rgb[50, -1, 0] == 255
        assert 120 < rgb[50, 100, 0] < 135


@pytest.mark.filterwarnings("error")
def test_a_number_beyond_float32_is_white(tmp_path: Path) -> None:
    pixels = np.tile(np.linspace(0, 1, 200), (1, 100, 1))
    pixels[0, :10] = 1e300
    reduced = read_reduced(write(tmp_path / "a.tif", pixels), 200)
    assert reduced is not None
    rgb = to_rgb(reduced, None, (64, 64, 64))
    assert rgb[:10].min() == 255
    assert 120 < rgb[50, 100, 0] < 135


def test_bands_are_shown_as_they_are_described(tmp_path: Path) -> None:
    pixels = np.zeros((4, 64, 64), np.uint8)
    pixels[2] = 200
    path = tmp_path / "bgr.tif"
    write(path, pixels, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("blue", "green", "red", "nir")
    reduced = read_reduced(open_image(str(path), roots=[tmp_path]), 64)
    assert reduced is not None
    assert reduced.pixels[:, 0, 0].tolist() == [200, 0, 0]


def test_the_smallest_sufficient_overview_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, np.full((1, 1024, 1024), 10, np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.nearest)
    with rasterio.open(path, "r+", OVERVIEW_LEVEL=1) as overview:
        overview.write(np.full((1, 256, 256), 77, np.uint8))
    reduced = read_reduced(open_image(str(path), roots=[tmp_path]), 200)
    assert reduced is not None
    assert reduced.pixels.shape == (1, 256, 256)
    assert (reduced.pixels == 77).all()
    assert not reduced.sampled


@pytest.mark.parametrize("layout", [{"blockxsize": 256, "blockysize": 256}, {"tiled": False}])
def test_of_a_large_image_without_overviews_a_sample_of_blocks_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any]
) -> None:
    """The left half of the image is bright; so is the left half of the picture."""
    monkeypatch.setattr("tasks.imagery.reading.reduced._MAX_BYTES", 1 << 20)
    pixels = np.zeros((1, 2048, 4096), np.uint8)
    pixels[:, :, :2048] = 200
    image = write(tmp_path / "a.tif", pixels, compress="deflate", **layout)
    reduced = read_reduced(image, 512)
    assert reduced is not None
    assert reduced.sampled
    _, rows, columns = reduced.pixels.shape
    assert rows * columns < 512 * 256
    assert (reduced.pixels[0, :, : columns // 2] == 200).all()
    assert (reduced.pixels[0, :, columns // 2 + 1 :] == 0).all()
    assert preview(image, [])


def test_an_image_that_cannot_be_decoded_within_the_limit_is_drawn_without_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.imagery.reading.reduced._MAX_SEQUENTIAL_BYTES", 1 << 20)
    path = tmp_path / "a.png"
    Picture.fromarray(np.full((1100, 1100), 255, np.uint8)).save(path)
    image = open_image(str(path), roots=[tmp_path])
    assert read_reduced(image, 512) is None
    assert (seen(preview(image, [], size=512)) == 64).all()


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not here: ../shared/data")
def test_every_real_image_has_a_picture() -> None:
    files = [path for path in DATA.iterdir() if path.suffix not in (".md", ".xml")]
    assert files
    for path in files:
        image = open_image(str(path), roots=[DATA])
        pixels = seen(preview(image, [], size=256))
        assert max(pixels.shape) in range(128, 321)
        assert pixels.std() > 1 or path.name == "sentinel2_truth.tif"  # classes 0 to 4 look black
