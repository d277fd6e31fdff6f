"""PMTiles open in GDAL; each zoom has the features with the highest scores, the last one all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from pmtiles.reader import MmapSource, Reader

from tasks.errors import RequestError
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import check_outputs, tile_density
from tasks.publish.tile_density import CELLS, MOST, FeaturePlaces
from tasks.request import FeatureFormat, FileOutput
from tests.gis_features import NAMES, odd, results_of, row, write

PIXEL = 111  # metres, of `DEGREES`
DATE_LINE = AffineGeoreference(Affine(0.01, 0, 179.5, 0, -0.01, 10), "EPSG:4326", (200, 200))
ARCTIC = AffineGeoreference(Affine(0.01, 0, 10, 0, -0.01, 85.11), "EPSG:4326", (200, 200))


def read(path: Path, zoom: int | None = None) -> geopandas.GeoDataFrame:
    chosen: dict[str, Any] = {} if zoom is None else {"ZOOM_LEVEL": str(zoom)}
    frame = geopandas.read_file(path, layer="features", **chosen)
    return frame.sort_values("score", ignore_index=True)


def test_gdal_reads_what_was_written(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pmtiles", "pmtiles", results_of(odd(), pixel_metres=PIXEL))
    frame = read(path)
    assert frame["class"].tolist() == NAMES
    np.testing.assert_array_equal(frame["score"], np.arange(1, 7) / 7)
    assert set(frame.geom_type) <= {"Polygon", "MultiPolygon"}
    shown = shapely.transform(frame.to_crs("EPSG:4326").geometry[0], lambda xy: xy / 1e-3)
    assert shown.symmetric_difference(shapely.box(0, 0, 10, 10)).area < 15  # of 100 pixels
    with path.open("rb") as file:
        header = Reader(MmapSource(file)).header()
    assert (header["min_zoom"], header["max_zoom"]) == (0, 7)
    assert header["min_lon_e7"] / 1e7 == pytest.approx(0)
    assert header["max_lon_e7"] / 1e7 == pytest.approx(0.070)


def test_a_lower_zoom_has_the_best_as_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.publish.tile_density.MOST", 3)
    rows = [row(number, score=(number + 1) / 20) for number in range(15)]
    path = write(tmp_path / "x.pmtiles", "pmtiles", results_of(rows, pixel_metres=PIXEL))
    assert len(set(read(path)["id"])) == 15
    first = read(path, 0)
    assert first["score"].tolist() == [13 / 20, 14 / 20, 15 / 20]
    assert set(first.geom_type) == {"Point"}
    counts = [len(set(read(path, zoom)["id"])) for zoom in range(8)]
    assert counts == sorted(counts)


def test_the_bytes_are_the_same_if_a_zoom_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = results_of([row(number) for number in range(150)], pixel_metres=PIXEL)
    found = [write(tmp_path / "x.pmtiles", "pmtiles", results).read_bytes()]
    for most in (0, 20_000):
        monkeypatch.setattr("tasks.publish.vector_tiles._MOST_MEMORY", most)
        found.append(write(tmp_path / "x.pmtiles", "pmtiles", results).read_bytes())
    assert len(set(found)) == 1


def test_without_features_it_is_an_archive_of_an_empty_tile(tmp_path: Path) -> None:
    path = write(tmp_path / "x.pmtiles", "pmtiles", results_of([]))
    with path.open("rb") as file:
        assert Reader(MmapSource(file)).header()["addressed_tiles_count"] == 1
    assert pyogrio.list_layers(path).tolist() == [["features", "Unknown"]]


def test_features_lie_on_both_sides_of_the_antimeridian(tmp_path: Path) -> None:
    results = results_of([row(4)], DATE_LINE, pixel_metres=1110)
    frame = read(write(tmp_path / "x.pmtiles", "pmtiles", results)).to_crs("EPSG:4326")
    west, _, east, _ = frame.total_bounds
    assert west == pytest.approx(-180, abs=0.01)
    assert east == pytest.approx(180, abs=0.01)


def test_features_beyond_the_end_of_the_map_are_left_out(tmp_path: Path) -> None:
    results = results_of([row(0), row(30)], ARCTIC, pixel_metres=1110)
    frame = read(write(tmp_path / "x.pmtiles", "pmtiles", results))
    assert len(set(frame["id"])) == 1


def test_it_is_refused_for_an_image_without_a_georeference(tmp_path: Path) -> None:
    output = FileOutput(type="File", path=str(tmp_path), formats=(FeatureFormat.PMTILES,))
    check_outputs([output], [tmp_path])
    with pytest.raises(RequestError, match=r"outputs\[0\]\.formats: pmtiles .* no georeference"):
        check_outputs([output], [tmp_path], georeferenced=False)


def test_a_feature_is_at_all_zooms_from_its_first_one_and_cells_are_not_too_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(5)
    corners = random.uniform(0, 190, (3000, 2))
    rows = [
        row(number, score=score, x_min=x, y_min=y, x_max=x + 1, y_max=y + 1)
        for number, (score, (x, y)) in enumerate(
            zip(random.uniform(size=3000).tolist(), corners.tolist(), strict=True)
        )
    ]
    monkeypatch.setattr(tile_density, "_MOST_CANDIDATES", 500)  # reduced on the way
    places = FeaturePlaces(12)
    batches = list(results_of(rows).batches())
    for batch in batches:
        places.add(batch.features, batch.features.table["score"].to_numpy())
    centers = np.concatenate([batch.features.centers for batch in batches])
    scores = np.array([each["score"] for each in rows])
    first = places.first_zooms()
    assert first.max() == 12
    for zoom in range(12):
        cells = np.floor((centers[:, 0] / 360 + 0.5) * 2 ** (zoom + CELLS))
        cells = cells + 1j * np.floor(projected(centers[:, 1]) * 2 ** (zoom + CELLS))
        shown = first <= zoom
        for cell in np.unique(cells):
            inside = cells == cell
            assert (shown & inside).sum() == min(inside.sum(), MOST)
            if (inside & ~shown).any():
                assert scores[inside & shown].min() >= scores[inside & ~shown].max()


def projected(latitude: Any) -> Any:
    """The fraction of a Web Mercator map's height, from its north, by its formula."""
    angle = np.radians(latitude)
    return (1 - np.log(np.tan(angle) + 1 / np.cos(angle)) / np.pi) / 2
