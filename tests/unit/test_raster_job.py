"""A whole job whose model answers with pixels: from the tiles of an image to one raster."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import PermanentError
from tasks.grid.tiles import Grid
from tasks.imagery import TilePixels
from tasks.inference.endpoint import Pixels
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.settings import settings
from tasks.storage import objects

WIDTH, HEIGHT = 1500, 1150
TILE, OVERLAP = 256, 60
CLASSES = [
    {"value": 3, "name": "water", "colour": "#0000ff"},
    {"value": 7, "name": "forest"},
    {"value": 9, "name": "rock"},
]
LOGITS = {"values": "logits", "classes": CLASSES}


class Landscape:
    """A model whose tiles disagree where they overlap, as those of real models do.

    Attributes:
        calls: Number of tiles that it was asked for.
        refused: Left upper corners of tiles that it fails on.
    """

    capacity: int | None = 2
    local = True

    def __init__(self, tiles_per_call: int = 1, refused: Sequence[tuple[int, int]] = ()) -> None:
        self.tiles_per_call, self.refused, self.calls = tiles_per_call, set(refused), 0

    def prepare(self, tile: TilePixels) -> tuple[tuple[int, int], NDArray[Any]]:
        window = tile.tile.window
        return (window.col_off, window.row_off), np.array(tile.pixels)

    def ask(self, prepared: Sequence[tuple[tuple[int, int], NDArray[Any]]]) -> list[Pixels]:
        self.calls += len(prepared)
        if any(corner in self.refused for corner, _ in prepared):
            raise PermanentError("The model does not like this tile.")
        return [Pixels(logits(pixels)) for _, pixels in prepared]

    def close(self) -> None:
        """Nothing is open."""


def logits(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(3, height, width) of a tile's pixels, which depend on where it ends too."""
    grey = pixels[0].astype(np.float32)
    slope = np.linspace(-1, 1, grey.shape[1], dtype=np.float32) * (grey.mean() - 128) / 32
    return np.stack([grey / 64 - 2 + slope, 1 - grey / 128, np.abs(grey - 128) / 24 - 2])


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Path]:
    """An image of smooth landscape, in a folder that requests may name files in."""
    random = np.random.default_rng(5)
    coarse = random.normal(size=(-(-HEIGHT // 50), -(-WIDTH // 50)))
    grey = np.kron(coarse, np.ones((50, 50)))[:HEIGHT, :WIDTH] * 50 + 128
    grey += random.normal(size=grey.shape) * 4
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=1, dtype="uint8",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as dataset:  # fmt: skip
        dataset.write(np.clip(grey, 1, 255).astype(np.uint8), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        settings.cache_clear()
        yield path
    settings.cache_clear()


def request(scene: Path, raster: dict[str, Any], **fields: Any) -> Request:
    message = {
        "jobId": "land",
        "imageUrls": [str(scene)],
        "outputs": [{"type": "File", "path": str(scene.parent / "out")}],
        "imageProcessor": {"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"},
        "imageProcessorTileSize": TILE,
        "imageProcessorTileOverlap": OVERLAP,
        "rasterOutput": raster,
        **fields,
    }
    return Request.parse(json.dumps(message))


def run(
    asked: Request,
    model: Landscape | None = None,
    *,
    region_rows: int = 10_000,
    work: str | None = None,
) -> Summary:
    """The outcome of a request, with no answers kept from another one unless `work` is given."""
    endpoint = model or Landscape()
    with settings.override(work_uri=objects.join(settings().work_uri, work or uuid4().hex)):
        return work_image(
            asked,
            asked.image_urls[0],
            region_rows=region_rows,
            open_endpoint=lambda *_: endpoint,
        )


def published(scene: Path, ending: str = "tif") -> NDArray[Any]:
    with rasterio.open(scene.parent / "out" / f"scene.tif.{ending}") as dataset:
        pixels: NDArray[Any] = dataset.read()
    return pixels


def blend(scene: Path) -> NDArray[np.float64]:
    """(3, height, width) probabilities, in plain NumPy."""
    with rasterio.open(scene) as dataset:
        image = dataset.read()
    grid = Grid(WIDTH, HEIGHT, TILE, OVERLAP)
    sums, total = np.zeros((3, HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))
    sine = np.sin(np.pi * (np.arange(TILE) + 0.5) / TILE) ** 2
    for y in grid.rows:
        for x in grid.columns:
            raw = np.exp(logits(image[:, y : y + TILE, x : x + TILE]).astype(np.float64))
            weights = np.outer(sine, sine)
            sums[:, y : y + TILE, x : x + TILE] += weights * raw / raw.sum(axis=0)
            total[y : y + TILE, x : x + TILE] += weights
    blended: NDArray[np.float64] = sums / total
    return blended


def test_the_class_map_is_that_of_a_plain_blend(scene: Path) -> None:
    summary = run(request(scene, LOGITS | {"scores": "float32"}))
    assert summary.status is JobStatus.SUCCESS
    expected = blend(scene)
    np.testing.assert_allclose(published(scene, "scores.tif"), expected, atol=1e-4)
    numbers = np.array([3, 7, 9])[expected.argmax(axis=0)]
    found = published(scene)[0]
    assert (found != numbers).mean() < 1e-4
    names = {3: "water", 7: "forest", 9: "rock"}
    counts = {names[number]: count for number, count in Counter(found.ravel().tolist()).items()}
    assert summary.raster is not None
    assert summary.raster.classes == counts
    assert summary.message.startswith("raster of 1500 × 1150 pixels: ")


@pytest.mark.parametrize(
    ("region_rows", "tiles_per_call"), [(300, 1), (500, 4), (900, 3), (10_000, 7)]
)
@pytest.mark.parametrize("blend", ["smooth", "clip", "max"])
def test_the_raster_does_not_depend_on_regions_or_batches(
    scene: Path, region_rows: int, tiles_per_call: int, blend: str
) -> None:
    asked = request(scene, LOGITS | {"blend": blend, "scores": "uint8"})
    run(asked)
    expected = published(scene), published(scene, "scores.tif")
    run(asked, Landscape(tiles_per_call), region_rows=region_rows)
    np.testing.assert_array_equal(published(scene), expected[0])
    np.testing.assert_array_equal(published(scene, "scores.tif"), expected[1])


def test_gdal_reads_the_names_of_classes_beside_the_class_map(scene: Path) -> None:
    run(request(scene, LOGITS))
    beside = scene.parent / "out" / "scene.tif.tif.aux.xml"
    assert beside.read_bytes().startswith(b"<PAMDataset>")  # else GDAL does not read it
    band = ET.parse(beside).getroot().find("PAMRasterBand")
    assert band is not None
    names = [each.text or "" for each in band.iterfind("CategoryNames/Category")]
    assert {number: name for number, name in enumerate(names) if name} == {
        one["value"]: one["name"] for one in CLASSES
    }
    rows = [[value.text for value in row] for row in band.iterfind("GDALRasterAttributeTable/Row")]
    assert rows[0] == ["3", "water", "0", "0", "255", "255"]
    with rasterio.open(scene.parent / "out" / "scene.tif.tif") as found:
        assert str(beside) in found.files


def test_a_file_says_what_it_holds(scene: Path) -> None:
    run(request(scene, LOGITS | {"scores": "uint8"}))
    with rasterio.open(scene) as image, rasterio.open(f"{scene.parent}/out/scene.tif.tif") as found:
        assert (found.crs, found.transform, found.shape) == (
            image.crs,
            image.transform,
            image.shape,
        )
        assert found.colormap(1)[3] == (0, 0, 255, 255)
        assert found.tags(1)["CLASS_7"] == "forest"
        assert float(found.tags(1)["STATISTICS_MAXIMUM"]) == found.read().max() == 9
        assert json.loads(found.tags()["swath"])["status"] == "SUCCESS"
        assert found.nodata == 255
    with rasterio.open(f"{scene.parent}/out/scene.tif.scores.tif") as found:
        assert found.descriptions == ("water", "forest", "rock")
        assert found.scales == pytest.approx([1 / 254] * 3)
    names = {path.name for path in (scene.parent / "out").iterdir()}
    assert not {"scene.tif.geojson", "scene.tif.parquet"} & names


def test_a_failed_tile_has_no_answer_where_no_neighbour_sees(scene: Path) -> None:
    grid = Grid(WIDTH, HEIGHT, TILE, OVERLAP)
    asked = request(scene, LOGITS)
    run(asked)
    whole = published(scene)[0]
    x, y = grid.columns[2], grid.rows[1]
    summary = run(asked, Landscape(refused=[(x, y)]), region_rows=500)
    assert summary.status is JobStatus.PARTIAL
    alone = np.zeros((HEIGHT, WIDTH), bool)
    alone[y : y + TILE, x : x + TILE] = True
    for column, row in ((1, 1), (3, 1), (2, 0), (2, 2)):
        top, left = grid.rows[row], grid.columns[column]
        alone[top : top + TILE, left : left + TILE] = False
    found = published(scene)[0]
    np.testing.assert_array_equal(found == 255, alone)
    far = np.ones((HEIGHT, WIDTH), bool)
    far[y : y + TILE, x : x + TILE] = False
    np.testing.assert_array_equal(found[far], whole[far])
    ledger = pq.read_table(scene.parent / "out" / "scene.tif.coverage.parquet")
    assert sum(ledger["missing_px"].to_pylist()) == alone.sum()
    assert summary.raster is not None
    told = summary.raster
    assert (told.missing, told.nodata, told.blank) == (alone.sum(), alone.sum(), 0)
    assert f"({100 * alone.mean():.1f} %): {alone.sum():,} failed" in summary.message


def test_pixels_of_blank_tiles_are_told_apart_from_failed_ones(scene: Path) -> None:
    with rasterio.open(scene, "r+") as image:
        image.nodata = 0
        image.write(np.zeros((1, 600, 600), np.uint8), window=Window(0, 0, 600, 600))
    told = run(request(scene, LOGITS)).raster
    empty = (published(scene)[0] == 255).sum()
    assert told is not None
    assert (told.nodata, told.blank, told.missing, told.outside) == (empty, empty, 0, 0)
    assert empty > 0


def test_answers_in_pixels_are_not_asked_for_again(scene: Path) -> None:
    grid = Grid(WIDTH, HEIGHT, TILE, OVERLAP)
    failing = Landscape(refused=[(grid.columns[0], grid.rows[0])])
    run(request(scene, LOGITS), failing, work="kept")
    again = Landscape()
    assert run(request(scene, LOGITS), again, work="kept").status is JobStatus.SUCCESS
    assert again.calls == 1
    mended = published(scene)
    other = Landscape()
    run(request(scene, LOGITS | {"blend": "max"}), other, work="kept")
    assert other.calls == 0
    run(request(scene, LOGITS))
    np.testing.assert_array_equal(published(scene), mended)


def western_half(scene: Path) -> str:
    """A region of interest, in WKT."""
    with rasterio.open(scene) as dataset:
        left, bottom, right, top = rasterio.warp.transform_bounds(
            dataset.crs, "EPSG:4326", *dataset.bounds
        )
    middle = (left + right) / 2
    corners = [(left - 1, bottom - 1), (middle, bottom - 1), (middle, top + 1), (left - 1, top + 1)]
    ring = ", ".join(f"{x} {y}" for x, y in [*corners, corners[0]])
    return f"POLYGON (({ring}))"


class Numbers(Landscape):
    """A model that answers with numbers of classes."""

    def ask(self, prepared: Sequence[tuple[tuple[int, int], NDArray[Any]]]) -> list[Pixels]:
        """The same classes without their probabilities."""
        return [
            Pixels(np.take(np.array([3, 7, 9], np.uint8), each.bands.argmax(axis=0))[np.newaxis])
            for each in super().ask(prepared)
        ]


def polygons(scene: Path) -> list[dict[str, Any]]:
    """The properties and ids of the published polygons."""
    collection = json.loads((scene.parent / "out" / "scene.tif.geojson").read_text())
    found = []
    for feature in collection["features"]:
        properties = feature["properties"]
        del properties["inferenceMetadata"]
        (only,) = properties.pop("featureClasses")
        found.append(properties | only | {"id": feature["id"]})
    return found


def area(found: list[dict[str, Any]], name: str) -> float:
    """The pixels in all polygons of a class."""
    return float(sum(each["areaPixels"] for each in found if each["iri"] == name))


def test_polygons_have_the_pixels_of_their_class(scene: Path) -> None:
    wanted = LOGITS | {"scores": "uint8", "polygons": {"classes": ["water", "rock"]}}
    summary = run(request(scene, wanted), region_rows=400)
    classes, scores = published(scene)[0], published(scene, "scores.tif")
    found = polygons(scene)
    assert summary.classes == Counter(each["iri"] for each in found)
    assert set(summary.classes) == {"water", "rock"}
    for name, number, band in (("water", 3, 0), ("rock", 9, 2)):
        assert area(found, name) == (classes == number).sum()
        weighted = sum(each["areaPixels"] * each["score"] for each in found if each["iri"] == name)
        assert weighted == pytest.approx(scores[band][classes == number].sum() / 254)
    for each in found:
        assert each["areaSquareMetres"] == pytest.approx(100 * each["areaPixels"], rel=2e-3)
    table = pq.read_table(scene.parent / "out" / "scene.tif.parquet")
    areas = dict(
        zip(*(table[name].to_pylist() for name in ("id", "area_square_metres")), strict=True)
    )
    assert areas.keys() == {each["id"] for each in found}
    for each in found:  # edges are straight in degrees in one, and geodesics in the other
        assert areas[each["id"]] == pytest.approx(each["areaSquareMetres"], rel=1e-4)


def test_polygons_of_every_class_leave_no_gaps(scene: Path) -> None:
    wanted = {"minimumArea": 200, "largestHole": 300, "tolerance": 1.5}
    asked = request(scene, LOGITS | {"polygons": wanted})
    summary = run(asked)
    found = polygons(scene)
    run(asked, Landscape(4), region_rows=400)
    assert polygons(scene) == found
    assert summary.features == len(found) > 3
    assert sum(each["areaPixels"] for each in found) == pytest.approx(WIDTH * HEIGHT)
    assert min(each["areaPixels"] for each in found) > 100


def test_polygons_are_where_a_class_is_probable_enough(scene: Path) -> None:
    asked = request(
        scene,
        LOGITS | {"activation": "sigmoid", "threshold": 0.6, "polygons": {}},
        regionOfInterest=western_half(scene),
    )
    summary = run(asked)
    classes, found = published(scene)[0], polygons(scene)
    assert summary.classes.keys() == {"water", "forest", "rock"}
    for each in CLASSES:
        assert area(found, str(each["name"])) == (classes == each["value"]).sum()
    assert all(0.6 - 1 / 254 <= each["score"] <= 1 for each in found)


def test_polygons_of_class_numbers_have_full_scores(scene: Path) -> None:
    wanted = {"values": "classes", "classes": CLASSES, "polygons": {"minimumArea": 50}}
    run(request(scene, wanted), Numbers())
    found = polygons(scene)
    assert {each["iri"] for each in found} == {"water", "forest", "rock"}
    assert {each["score"] for each in found} == {1.0}


def test_pixels_outside_the_region_of_interest_have_no_answer(scene: Path) -> None:
    asked = request(scene, LOGITS, regionOfInterest=western_half(scene))
    summary = run(asked, region_rows=500)
    assert summary.status is JobStatus.SUCCESS
    seen = published(scene)[0] != 255
    told = summary.raster
    assert told is not None
    assert (told.nodata, told.outside, told.missing, told.blank) == (
        (~seen).sum(),
        told.nodata,
        0,
        0,
    )
    assert told.nodata_share == pytest.approx((~seen).mean())
    assert 0.45 < seen.mean() < 0.55
    assert seen[:, :700].all()
    assert not seen[:, 800:].any()
