"""The region of interest of a command, from WKT and from files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import geopandas
import pyproj
import pytest
import shapely

from deployments.run.region_of_interest import region_of_interest
from tasks.errors import RequestError

WEST, EAST = shapely.box(4.0, 51.9, 4.1, 52.0), shapely.box(4.1, 51.9, 4.3, 52.0)
UNITED = shapely.box(4.0, 51.9, 4.3, 52.0)


def read(path: Path) -> shapely.Geometry:
    return shapely.from_wkt(region_of_interest(str(path)))


def write(path: Path, *polygons: shapely.Geometry, crs: str | None = "EPSG:4326") -> Path:
    """A vector file of polygons, given in longitude and latitude, in a reference system."""
    frame = geopandas.GeoDataFrame(geometry=list(polygons), crs="EPSG:4326")
    (frame.to_crs(crs) if crs else frame.set_crs(None, allow_override=True)).to_file(path)
    return path


def geojson(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def feature(polygon: shapely.Geometry) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(polygon)}


def refusal(path: Path | str) -> str:
    with pytest.raises(RequestError) as caught:
        region_of_interest(str(path))
    return str(caught.value)


def test_wkt_stays_as_it_is() -> None:
    text = " polygon ((4 51, 5 51, 5 52, 4 51))"
    assert region_of_interest(text) == text


@pytest.mark.parametrize("name", ["roi.geojson", "roi.gpkg", "roi.shp", "roi.fgb", "roi.geojsonl"])
def test_the_features_of_a_file_are_united(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, WEST, EAST)
    assert shapely.equals_exact(read(path).normalize(), UNITED.normalize(), 1e-9) or (
        read(path).symmetric_difference(UNITED).area < 1e-9
    )


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [feature(WEST), feature(EAST)]},
        {"type": "GeometryCollection", "geometries": [shapely.geometry.mapping(UNITED)]},
        feature(UNITED),
        shapely.geometry.mapping(shapely.MultiPolygon([WEST, shapely.box(4.1, 51.9, 4.3, 52)])),
        {
            "type": "FeatureCollection",
            "features": [feature(UNITED), {"type": "Feature", "geometry": None}],
        },
    ],
)
def test_geojson_may_be_of_any_kind(tmp_path: Path, document: Any) -> None:
    path = geojson(tmp_path / "roi.json", document)
    assert read(path).symmetric_difference(UNITED).area < 1e-9


@pytest.mark.parametrize("name", ["roi.gpkg", "roi.shp", "roi.geojson"])
@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:3857", "EPSG:28992"])
def test_a_file_is_reprojected(tmp_path: Path, name: str, crs: str) -> None:
    found = read(write(tmp_path / name, UNITED, crs=crs))
    assert found.symmetric_difference(UNITED).area < 0.002 * UNITED.area


def test_an_edge_that_is_straight_on_the_map_bends_in_degrees(tmp_path: Path) -> None:
    square = shapely.box(200_000, 6_000_000, 800_000, 6_600_000)
    path = tmp_path / "roi.gpkg"
    geopandas.GeoDataFrame(geometry=[square], crs="EPSG:32631").to_file(path)
    to_map = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32631", always_xy=True)
    found = shapely.transform(
        shapely.segmentize(read(path), 0.01), to_map.transform, interleaved=False
    )
    assert found.hausdorff_distance(square) < 50  # metres, of 600 km


def test_a_polygon_across_the_antimeridian_is_cut_there(tmp_path: Path) -> None:
    to_map = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True)
    (west, east), (south, north) = to_map.transform([179.5, -179.5], [10, 11])
    projected = tmp_path / "roi.gpkg"
    square = shapely.box(west, south, east, north)
    geopandas.GeoDataFrame(geometry=[square], crs="EPSG:32601").to_file(projected)
    beyond = geojson(tmp_path / "roi.geojson", feature(shapely.box(179.5, 10, 180.5, 11)))
    for path in (projected, beyond):
        found = read(path)
        assert found.geom_type == "MultiPolygon"
        assert found.is_valid
        assert found.area == pytest.approx(1, rel=0.05)
        right, left = sorted(part.bounds for part in found.geoms)
        assert right[0] == -180
        assert left[2] == 180
        assert (right[2], left[0]) == pytest.approx((-179.5, 179.5), abs=0.05)


@pytest.mark.parametrize("west", [-180, 170, 180])
def test_a_polygon_that_ends_at_the_antimeridian_is_a_polygon(tmp_path: Path, west: int) -> None:
    path = geojson(tmp_path / "roi.json", feature(shapely.box(west, 0, west + 10, 1)))
    wanted = shapely.box(170, 0, 180, 1) if west == 170 else shapely.box(-180, 0, -170, 1)
    assert read(path).geom_type == "Polygon"
    assert read(path).equals(wanted)


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.box(1000, 0, 1001, 1),
        shapely.box(0, 90, 1, 91),
        shapely.Polygon([(0, 0), (1e300, 0), (1, 1e300)]),
    ],
)
def test_a_polygon_beyond_the_globe_is_refused(tmp_path: Path, polygon: shapely.Geometry) -> None:
    path = geojson(tmp_path / "roi.json", feature(polygon))
    assert "has no position in longitude and latitude" in refusal(path)


def test_geojson_of_endless_depth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roi.json"
    path.write_text("[" * 100_000 + "]" * 100_000, encoding="utf-8")
    assert f"{path} is not GeoJSON" in refusal(path)


def test_a_polygon_around_the_globe_is_not_turned(tmp_path: Path) -> None:
    whole = shapely.box(-180, -60, 180, 60)
    assert read(geojson(tmp_path / "roi.geojson", feature(whole))).equals(whole)


def test_the_whole_web_map_is_the_globe(tmp_path: Path) -> None:
    edge = 20_037_508.342789244
    path = tmp_path / "roi.gpkg"
    whole = shapely.box(-edge, -edge, edge, edge)
    geopandas.GeoDataFrame(geometry=[whole], crs="EPSG:3857").to_file(path)
    assert read(path).bounds == pytest.approx((-180, -85.051129, 180, 85.051129))
    assert read(path).area == pytest.approx(360 * 2 * 85.051129)


def test_a_polygon_around_a_pole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roi.gpkg"
    around, beside = shapely.box(-1e6, -1e6, 1e6, 1e6), shapely.box(1e6, 1e6, 2e6, 2e6)
    geopandas.GeoDataFrame(geometry=[around], crs="EPSG:3413").to_file(path)
    assert "or is around a pole" in refusal(path)
    geopandas.GeoDataFrame(geometry=[beside], crs="EPSG:3413").to_file(path)
    assert read(path).bounds[1] > 60


def test_positions_that_the_system_does_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "roi.gpkg"
    far = shapely.box(1e12, 1e12, 2e12, 2e12)
    geopandas.GeoDataFrame(geometry=[far], crs="EPSG:32633").to_file(path)
    assert "has no position in longitude and latitude" in refusal(path)


def test_heights_are_left_out(tmp_path: Path) -> None:
    path = geojson(tmp_path / "roi.geojson", feature(shapely.force_3d(UNITED, 5)))
    assert read(path).equals(UNITED)
    assert "Z" not in region_of_interest(str(path))


BOWTIE = shapely.Polygon([(4, 51), (5, 52), (5, 51), (4, 52), (4, 51)])


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (feature(shapely.Point(4, 51)), "feature 1 of .* is a Point; give polygons only"),
        (feature(BOWTIE), "feature 1 of .* is not a valid polygon: Self-intersection"),
        ({"type": "FeatureCollection", "features": []}, "has no polygon; give a file with one"),
        ({"type": "FeatureCollection"}, "is not GeoJSON"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "is not GeoJSON"),
        ([1], "is not GeoJSON"),
        ({"type": "Feature", "geometry": {"type": "Circle"}}, "is not GeoJSON"),
        (
            feature(UNITED) | {"crs": {"type": "name", "properties": {"name": "local"}}},
            "the coordinate reference system of .* is not known",
        ),
        (  # of heights
            feature(UNITED) | {"crs": {"type": "name", "properties": {"name": "EPSG:5773"}}},
            "the coordinate reference system of .*, EGM96 height, is not that of a map",
        ),
    ],
)
def test_a_file_that_gives_no_area_is_refused(tmp_path: Path, document: Any, reason: str) -> None:
    path = geojson(tmp_path / "roi.geojson", document)
    with pytest.raises(RequestError, match=rf"^--roi: .*{reason}"):
        region_of_interest(str(path))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "roi.gpkg"
    broken.write_bytes(b"not a database")
    assert "is not a vector file that GDAL reads" in refusal(broken)
    broken = tmp_path / "roi.geojson"
    broken.write_text("{", encoding="utf-8")
    assert "is not GeoJSON" in refusal(broken)
    for text in ("aera.geojson", "POINT (4 51)", "4 51, " * 9999):
        assert refusal(text).startswith(f"--roi: {text[:80]!r} is neither WKT nor a file; give")


def test_a_file_without_a_reference_system_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="crs"):
        path = write(tmp_path / "roi.shp", UNITED, crs=None)
    assert "has no coordinate reference system; set it" in refusal(path)


def test_a_file_of_several_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "roi.gpkg"
    frame = geopandas.GeoDataFrame(geometry=[UNITED], crs="EPSG:4326")
    frame.to_file(path, layer="port")
    frame.to_file(path, layer="sea")
    assert "has 2 layers with geometries (port, sea); give a file with one" in refusal(path)


def test_without_pyogrio_geojson_is_read_and_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write(tmp_path / "roi.gpkg", UNITED)
    own = geojson(tmp_path / "roi.geojson", feature(UNITED))
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    assert read(own).equals(UNITED)
    assert "needs pyogrio; install it with pip install 'swath[python]'" in refusal(package)
