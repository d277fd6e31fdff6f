"""The rasters of a job as QGIS opens them by itself: renderer, legend, place, and what is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

import swath
from tests.qgis_files import PYTHON, Opened, has_qgis, in_qgis

TILE = 32
HEIGHT, WIDTH, WITHOUT_DATA = (
    160,
    256,
    64,
)  # multiples of a tile, so that blank tiles have no answer


pytestmark = pytest.mark.skipif(
    not has_qgis(), reason=f"{PYTHON} has no QGIS; install Debian's python3-qgis"
)


def landscape() -> NDArray[np.uint8]:
    """Dark with a bright disc and a bright bar; no data in the west."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grey = np.where(np.hypot(x - 150, y - 60) < 45, 200, 60)
    grey[120:140, 70:230] = 200
    grey[:, :WITHOUT_DATA] = 0
    return grey.astype(np.uint8)


def write(path: Path, place: Mapping[str, Any]) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=1, dtype="uint8", nodata=0,
        **place,
    ) as dataset:  # fmt: skip
        dataset.write(landscape(), 1)
    return path


def bright(tiles: NDArray[np.uint8]) -> NDArray[Any]:
    return tiles.reshape(len(tiles), *tiles.shape[-2:]) > 100


def many(tiles: NDArray[np.uint8]) -> list[NDArray[Any]]:
    return list(np.where(bright(tiles), 300, 3).astype(np.uint16))


def water(tiles: NDArray[np.uint8]) -> list[NDArray[Any]]:
    return list(np.where(bright(tiles), 0.9, 0.1).astype(np.float32)[:, np.newaxis])


def heights(tiles: NDArray[np.uint8]) -> list[NDArray[Any]]:
    high = np.where(bright(tiles), 20, 10).astype(np.float32)
    return list(np.stack([high, np.ones_like(high)], axis=1))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Opened]:
    folder = tmp_path_factory.mktemp("qgis")
    points = [
        GroundControlPoint(row=row, col=col, x=18 + (col + row / 4) / 1e3, y=-34 - row / 1e3)
        for row in (0, HEIGHT)
        for col in (0, WIDTH)
    ]
    places = {
        "utm": {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)},
        "points": {"crs": "EPSG:4326", "gcps": points},
    }
    images = {name: write(folder / f"{name}.tif", place) for name, place in places.items()}
    common: dict[str, Any] = {"tile_size": TILE, "overlap": 0, "batch_size": 30, "progress": False}
    names = {3: "land", 300: "lake & sea"}
    files = {f"image {name}": image for name, image in images.items()}
    for name, image in images.items():
        result = swath.run(
            image, model=many, raster="classes", class_names=names, polygons=True,
            out=folder / f"{name}-classes", **common,
        )  # fmt: skip
        files |= {f"classes {name}": result.files["raster"], f"{name}": result.files["geojson"]}
    result = swath.run(
        images["utm"], model=water, class_names=["water"], scores="uint8",
        raster={"values": "probabilities", "activation": "sigmoid"}, out=folder / "water", **common,
    )  # fmt: skip
    files |= {"water": result.files["raster"], "scores": result.files["scores"]}
    result = swath.run(
        images["utm"], model=heights, out=folder / "heights",
        raster={"values": "values", "bands": ["height", "error"], "unit": "m"}, **common,
    )  # fmt: skip
    files["heights"] = result.files["raster"]
    return dict(zip(files, in_qgis(folder, [*files.values()]), strict=True))


def test_every_file_is_valid_and_has_the_reference_system_of_its_image(
    opened: Mapping[str, Opened],
) -> None:
    assert all(each.about["valid"] for each in opened.values())
    crs = {name: each.about["crs"] for name, each in opened.items()}
    assert crs["classes utm"] == crs["water"] == crs["scores"] == crs["heights"] == "EPSG:32631"
    assert crs["classes points"] == crs["utm"] == crs["points"] == "EPSG:4326"


def test_the_legend_has_the_classes_and_no_other_number(opened: Mapping[str, Opened]) -> None:
    for name in ("classes utm", "classes points"):
        about = opened[name].about
        assert about["renderer"] == "paletted"
        assert about["symbols"] == [["land", "#0072b2", 255], ["lake & sea", "#e69f00", 255]]
        assert about["legend"][1:] == ["land", "lake & sea"]


@pytest.mark.parametrize("place", ["utm", "points"])
def test_classes_are_drawn_over_what_they_were_found_in(
    opened: Mapping[str, Opened], place: str
) -> None:
    grey = opened[f"image {place}"].picture
    found = opened[f"classes {place}"].picture
    expected = np.zeros_like(found)
    expected[(grey[..., 3] > 0) & (grey[..., 0] < 128)] = 0x00, 0x72, 0xB2, 255
    expected[(grey[..., 3] > 0) & (grey[..., 0] >= 128)] = 0xE6, 0x9F, 0x00, 255
    assert (expected[..., 3] > 0).any()
    assert (expected == found).all(axis=-1).mean() > 0.99


def test_polygons_beside_a_styled_raster_are_drawn(opened: Mapping[str, Opened]) -> None:
    for place in ("utm", "points"):
        polygons = opened[place]
        assert polygons.about["renderer"] == "singleSymbol"
        assert polygons.about["features"] >= 3
        assert (polygons.picture[..., 3] > 0).mean() > 0.5


def test_pixels_without_a_class_show_what_lies_below(opened: Mapping[str, Opened]) -> None:
    water = opened["water"]
    assert water.about["symbols"] == [["no class", "#000000", 0], ["water", "#0072b2", 255]]
    seen = water.picture[..., 3] > 0
    assert (seen == (landscape() > 100)).mean() > 0.99


def test_values_have_a_ramp_of_their_first_band(opened: Mapping[str, Opened]) -> None:
    about, picture = opened["heights"].about, opened["heights"].picture
    assert (about["renderer"], about["bands"]) == ("singlebandpseudocolor", [1])
    assert about["ramp"] == [10, 20, " m"]
    assert (picture[:, :WITHOUT_DATA, 3] == 0).all()
    np.testing.assert_array_equal(picture[5, 100], (68, 1, 84, 255))
    np.testing.assert_array_equal(picture[60, 150], (253, 231, 37, 255))


def test_one_score_is_drawn_in_grey_between_no_and_yes(opened: Mapping[str, Opened]) -> None:
    about, picture = opened["scores"].about, opened["scores"].picture
    assert about["renderer"] == "singlebandgray"
    assert (picture[:, :WITHOUT_DATA, 3] == 0).all()
    assert picture[60, 150, 0] > picture[5, 100, 0]
