"""The STAC Item of an image's results: valid, with the ground that is covered and checksums."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pystac
import pytest
import shapely
from affine import Affine
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from shapely.geometry import shape

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.job import work_image
from tasks.publish import publish
from tasks.publish.covered_area import covered_area
from tasks.request import FileOutput
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.settings import settings
from tests.job_scene import corner, paint, request
from tests.publications import assert_whole, results

FORMATS = ["geojson", "parquet", "stac"]
SCHEMAS = Path(__file__).parents[1] / "stac_schemas"


@pytest.fixture(scope="session")
def offline() -> JsonSchemaSTACValidator:
    """A validator that has the schemas of the extensions, so that it fetches none."""
    validator = JsonSchemaSTACValidator()
    for path in SCHEMAS.glob("*.json"):
        schema = json.loads(path.read_text())
        validator.schema_cache[schema["$id"].rstrip("#")] = schema
    return validator


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    with settings.override(local_roots=[tmp_path], work_uri=str(tmp_path / "work")):
        yield tmp_path


def outputs(folder: Path) -> list[dict[str, Any]]:
    return [{"type": "File", "path": str(folder), "formats": FORMATS}]


def item_of(folder: Path, name: str = "scene.tif") -> pystac.Item:
    return pystac.Item.from_file(str(folder / f"{name}.stac.json"))


def test_the_item_of_a_job_is_valid_and_names_what_is_there(
    allowed: Path, offline: JsonSchemaSTACValidator
) -> None:
    scene, out = paint(allowed / "scene.tif"), allowed / "out"
    asked = request(scene, out, outputs=outputs(out))
    summary = work_image(asked, asked.image_urls[0])
    item = item_of(out)
    assert item.validate(validator=offline)
    assert set(item.assets) == {"geojson", "parquet", "coverage"}
    for asset in item.assets.values():
        body = Path(asset.get_absolute_href() or "").read_bytes()
        assert asset.extra_fields["file:size"] == len(body)
        assert asset.extra_fields["file:checksum"] == "1220" + sha256(body).hexdigest()
        assert asset.media_type
        assert asset.roles
    told = item.properties
    assert (told["swath:status"], told["swath:covered"]) == ("SUCCESS", 1.0)
    assert told["swath:tiles"] == summary.tiles
    assert told["swath:features"] == summary.features > 0
    assert told["mlm:name"] == "bright-targets"
    assert told["swath:model"]["version"] == told["processing:software"]["Swath"]
    assert item.datetime is None
    assert told["start_datetime"] == told["end_datetime"] == told["created"]
    (link,) = item.get_links("derived_from")
    assert (link.href, link.media_type) == (scene.as_uri(), "image/tiff; application=geotiff")
    manifest = assert_whole(str(out), "scene.tif")
    assert [file["kind"] for file in manifest["files"]][-1] == "stac"
    assert {summary.outputs["stac"]} == {str(out / "scene.tif.stac.json")}
    footprints = geopandas.read_parquet(out / "scene.tif.coverage.parquet").geometry
    missed = shape(item.geometry).symmetric_difference(footprints.union_all())
    assert missed.area < 1e-4 * footprints.union_all().area


def test_the_item_is_derived_from_that_of_the_image_if_the_request_names_it(
    allowed: Path, offline: JsonSchemaSTACValidator
) -> None:
    scene, out = paint(allowed / "scene.tif"), allowed / "out"
    named = "https://stac.example.org/items/scene 1.json"
    asked = request(scene, out, outputs=outputs(out), imageStacItems={str(scene): named})
    work_image(asked, asked.image_urls[0])
    item = item_of(out)
    assert item.validate(validator=offline)
    (link,) = item.get_links("derived_from")
    assert (link.href, link.media_type) == (named.replace(" ", "%20"), "application/geo+json")
    (link,) = item.get_links("via")
    assert (link.href, link.media_type) == (scene.as_uri(), "image/tiff; application=geotiff")


def test_the_region_of_interest_is_what_is_covered(allowed: Path) -> None:
    scene, out = paint(allowed / "scene.tif"), allowed / "out"
    roi = corner(scene)
    asked = request(scene, out, outputs=outputs(out), regionOfInterest=roi)
    work_image(asked, asked.image_urls[0])
    area, wanted = shape(item_of(out).geometry), shapely.from_wkt(roi)
    assert shapely.symmetric_difference(area, wanted).area < 1e-3 * wanted.area
    assert item_of(out).bbox == pytest.approx(wanted.bounds, abs=1e-6)


def test_without_a_georeference_there_is_neither_a_geometry_nor_a_bbox(
    tmp_path: Path, offline: JsonSchemaSTACValidator
) -> None:
    output = FileOutput(type="File", path=str(tmp_path), formats=FORMATS)
    publish([output], replace(results(2), georeference=None), "x.tif", [tmp_path])
    item = item_of(tmp_path, "x.tif")
    assert item.validate(validator=offline)
    assert (item.geometry, item.bbox) == (None, None)


def test_the_time_of_acquisition_is_that_of_the_item(
    tmp_path: Path, offline: JsonSchemaSTACValidator
) -> None:
    found = results(2)
    metadata = replace(found.metadata, source_metadata=[{"sourceDT": "2024-06-01T10:30:00Z"}])
    output = FileOutput(type="File", path=str(tmp_path), formats=FORMATS)
    publish([output], replace(found, metadata=metadata), "x.tif", [tmp_path])
    item = item_of(tmp_path, "x.tif")
    assert item.validate(validator=offline)
    assert item.properties["datetime"] == "2024-06-01T10:30:00Z"
    assert "start_datetime" not in item.properties


def test_an_item_is_there_also_if_every_tile_failed(
    tmp_path: Path, offline: JsonSchemaSTACValidator
) -> None:
    output = FileOutput(type="File", path=str(tmp_path), formats=FORMATS)
    publish([output], results(None), "x.tif", [tmp_path])
    item = item_of(tmp_path, "x.tif")
    assert item.validate(validator=offline)
    assert (set(item.assets), item.geometry) == ({"coverage"}, None)
    assert item.properties["swath:status"] == "FAILED"


def test_a_name_with_signs_of_urls_is_escaped(
    tmp_path: Path, offline: JsonSchemaSTACValidator
) -> None:
    output = FileOutput(type="File", path=str(tmp_path), formats=FORMATS)
    publish([output], results(1), "a b#c?é%.tif", [tmp_path])
    # pystac reads a path with a `?` as a URL
    item = pystac.Item.from_dict(json.loads((tmp_path / "a b#c?é%.tif.stac.json").read_text()))
    assert item.validate(validator=offline)
    assert item.assets["geojson"].href == "./a%20b%23c%3F%C3%A9%25.tif.geojson"


def _ledger(grid: Grid, failed: set[int]) -> pa.Table:
    tiles = (
        grid.tile(row, column)
        for row in range(len(grid.rows))
        for column in range(len(grid.columns))
    )
    records = [
        TileRecord(tile, TileState.FAILED if number in failed else TileState.INFERRED)
        for number, tile in enumerate(tiles)
    ]
    return measure(coverage.ledger(records), Cells.of(grid, None))


@pytest.mark.parametrize("failed", [set[int](), {0}, {4, 5}, set(range(8))])
def test_the_cells_of_failed_tiles_are_left_out(failed: set[int]) -> None:
    grid = Grid(250, 250, 100, 20)
    ledger = _ledger(grid, failed)
    pixel = 1e-4
    place = AffineGeoreference(Affine(pixel, 0, 10, 0, -pixel, 50), "EPSG:4326", (250, 250))
    area = covered_area(ledger, place, None)
    assert area is not None
    left = np.isin(np.arange(len(ledger)), list(failed), invert=True)
    assert area.area / pixel**2 == pytest.approx(ledger["area_px"].to_numpy()[left].sum(), rel=1e-3)
    assert area.is_valid


def test_gaps_of_thousands_of_failed_tiles_are_left_out_where_they_are_small() -> None:
    grid = Grid(12_007, 8_003, 100, 0)
    count = len(grid.rows) * len(grid.columns)
    failed = set(np.random.default_rng(0).choice(count, count // 3, replace=False).tolist())
    place = AffineGeoreference(Affine(1e-4, 0, 10, 0, -1e-4, 50), "EPSG:4326", (12_007, 8_003))
    area = covered_area(_ledger(grid, failed), place, None)
    assert area is not None
    assert area.is_valid
    assert shapely.get_num_coordinates(area) < 20_000
    assert area.bounds == pytest.approx((10, 50 - 0.8003, 11.2007, 50), abs=1e-6)


def test_an_image_over_the_antimeridian_is_cut_there() -> None:
    grid = Grid(200, 100, 100, 0)
    place = AffineGeoreference(Affine(0.01, 0, 179, 0, -0.01, 50), "EPSG:4326", (200, 100))
    area = covered_area(_ledger(grid, set()), place, None)
    assert area is not None
    assert [part.bounds for part in sorted(area.geoms, key=lambda part: part.bounds)] == [
        (-180.0, 49.0, -179.0, 50.0),
        (179.0, 49.0, 180.0, 50.0),
    ]
    roi = shapely.box(179.5, 48, 180, 51)
    part = covered_area(_ledger(grid, set()), place, roi)
    assert part is not None
    assert part.bounds == (179.5, 49.0, 180.0, 50.0)
