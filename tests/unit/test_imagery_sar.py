"""SICD and SIDD are georeferenced by their sensor models, as sarkit and the standards do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.imagery import Georeference, open_image

etree = pytest.importorskip("lxml.etree", reason="the extra `sar` is not installed")
sidd = pytest.importorskip("sarkit.sidd", reason="the extra `sar` is not installed")

import sarkit.sicd  # noqa: E402 - only where it is installed
import sarkit.wgs84  # noqa: E402

from tasks.imagery.georeference.sar import model_xml  # noqa: E402

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SICD = DATA / "sicd_50x50.nitf"
GEOD = pyproj.Geod(ellps="WGS84")
needs_data = pytest.mark.skipif(not SICD.is_file(), reason="../shared/data is not on this machine")


def metres(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    return float(np.max(GEOD.inv(one[:, 0], one[:, 1], two[:, 0], two[:, 1])[2]))


def pixels(count: int = 1000, side: int = 50) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(0, side, (count, 2))


def georeference(file: Path, dem: str | None = None) -> Georeference:
    found = open_image(str(file), roots=[file.parent], dem=dem).georeference
    assert found
    return found


@pytest.fixture(scope="module")
def xml() -> Any:
    """The real SICD's XML, read by sarkit."""
    reading: Any = sarkit.sicd.NitfReader
    with SICD.open("rb") as file, reading(file) as reader:
        return reader.metadata.xmltree


def of_sicd(xml: Any, path: str) -> float:
    return float(xml.findtext("/".join(f"{{*}}{part}" for part in path.split("/"))))


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[bytes, bytes], Path]:
    """The real SICD with all of one text in it replaced by another of the same length."""

    def edit(old: bytes, new: bytes) -> Path:
        body = SICD.read_bytes()
        assert old in body
        assert len(old) == len(new)
        file = tmp_path / "edited.nitf"
        file.write_bytes(body.replace(old, new))
        return file

    return edit


@needs_data
def test_the_scene_centre_is_that_of_the_header(xml: Any) -> None:
    found = georeference(SICD)
    assert (found.kind, found.text) == ("sicd", "SICD sensor model at -5 m")
    centre = np.array([[of_sicd(xml, f"GeoData/SCP/LLH/{axis}") for axis in ("Lon", "Lat")]])
    pixel = np.array(
        [
            [
                of_sicd(xml, f"ImageData/SCPPixel/{axis}") - of_sicd(xml, f"ImageData/First{axis}")
                for axis in ("Col", "Row")
            ]
        ]
    )
    assert metres(found.to_world(pixel + 0.5), centre) < 0.01
    np.testing.assert_allclose(found.to_image(centre), pixel + 0.5, atol=1e-3)


@needs_data
def test_every_pixel_agrees_with_sarkit(xml: Any) -> None:
    found, points = georeference(SICD), pixels()
    spacing = [of_sicd(xml, f"Grid/{axis}/SS") for axis in ("Row", "Col")]
    centre = [of_sicd(xml, f"ImageData/SCPPixel/{axis}") - 1 for axis in ("Row", "Col")]
    grid = (points[:, ::-1] - 0.5 - centre) * spacing
    height = of_sicd(xml, "GeoData/SCP/LLH/HAE")
    places, _, _ = sarkit.sicd.image_to_constant_hae_surface(xml, grid, height, delta_hae_max=1e-4)
    expected = sarkit.wgs84.cartesian_to_geodetic(places)[:, 1::-1]
    world = found.to_world(points)
    assert metres(world, expected) < 1e-3
    places = sarkit.wgs84.geodetic_to_cartesian(np.insert(world[:, ::-1], 2, height, axis=1))
    grid, _, _ = sarkit.sicd.scene_to_image(xml, places)
    expected = (grid / spacing + centre)[:, ::-1] + 0.5
    np.testing.assert_allclose(found.to_image(world), expected, atol=1e-3)
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-4)


@needs_data
def test_corner_points_are_off_by_tens_of_metres(xml: Any) -> None:
    found = georeference(SICD)
    with rasterio.open(SICD) as dataset:
        corners = dataset.gcps[0]
    points = np.array([[corner.col, corner.row] for corner in corners])
    away = metres(found.to_world(points), np.array([[corner.x, corner.y] for corner in corners]))
    assert 20 < away < 60


@needs_data
def test_many_points_round_trip(xml: Any) -> None:
    points = pixels(100_000)
    found = georeference(SICD)
    np.testing.assert_allclose(found.to_image(found.to_world(points)), points, atol=1e-4)
    assert found.to_world(points[:0]).shape == (0, 2)
    assert found.to_image(points[:0]).shape == (0, 2)
    beyond = np.array([[0.0, 0.0], [100.0, 80.0], [np.nan, 0.0]])  # other sides of the Earth
    image = found.to_image(beyond)
    assert np.isnan(image[2]).all()
    assert np.isnan(image).sum(axis=1).tolist() in ([0, 0, 2], [2, 2, 2], [0, 2, 2], [2, 0, 2])


@needs_data
def test_a_chip_has_the_position_it_has_in_the_full_image(
    edited: Callable[[bytes, bytes], Path], xml: Any
) -> None:
    chip = edited(b"<FirstRow>1</FirstRow>", b"<FirstRow>9</FirstRow>")
    points = pixels()
    shifted = georeference(SICD).to_world(points + np.array([0, 8]))
    assert metres(georeference(chip).to_world(points), shifted) < 1e-3


@needs_data
def test_a_part_of_a_product_is_described_as_a_part(edited: Callable[[bytes, bytes], Path]) -> None:
    found = georeference(edited(b"<NumRows>50</NumRows>", b"<NumRows>99</NumRows>"))
    assert found.text == "SICD sensor model at -5 m, the first 50 of 99 rows"
    points = pixels()
    assert metres(found.to_world(points), georeference(SICD).to_world(points)) == 0


def elevation(file: Path, heights: NDArray[np.float64]) -> str:
    shape = {"width": heights.shape[1], "height": heights.shape[0], "count": 1, "dtype": "float64"}
    place = {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, -73.6, 0, -1e-4, 45.3)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(heights, 1)
    return str(file)


@needs_data
def test_pixels_are_projected_onto_the_elevation_model(tmp_path: Path, xml: Any) -> None:
    rows, columns = np.mgrid[:200, :300]
    dem = elevation(tmp_path / "dem.tif", 200 + 40 * np.sin(columns / 20) * np.cos(rows / 15))
    found, points = georeference(SICD, dem), pixels(300)
    assert found.text == f"SICD sensor model over {dem}"
    world = found.to_world(points)
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-3)
    assert metres(world, georeference(SICD).to_world(points)) > 100
    flat = georeference(SICD, elevation(tmp_path / "flat.tif", np.full((200, 300), 250.0)))
    spacing = [of_sicd(xml, f"Grid/{axis}/SS") for axis in ("Row", "Col")]
    centre = [of_sicd(xml, f"ImageData/SCPPixel/{axis}") - 1 for axis in ("Row", "Col")]
    grid = (points[:, ::-1] - 0.5 - centre) * spacing
    places, _, _ = sarkit.sicd.image_to_constant_hae_surface(xml, grid, 250.0, delta_hae_max=1e-4)
    expected = sarkit.wgs84.cartesian_to_geodetic(places)[:, 1::-1]
    assert metres(flat.to_world(points), expected) < 0.01


@needs_data
def test_an_unreadable_elevation_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="SWATH_DEM_URI"):
        georeference(SICD, str(tmp_path / "absent.tif"))


@needs_data
def test_threads_share_a_sensor_model() -> None:
    found, points = georeference(SICD), pixels(5000)
    expected = found.to_world(points)
    with ThreadPoolExecutor(4) as pool:
        for world in pool.map(found.to_world, [points] * 8):
            np.testing.assert_array_equal(world, expected)


@needs_data
def test_without_the_extra_the_record_names_the_corner_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        sys.modules, "tasks.imagery.georeference.sar", None
    )  # as if it could not be imported
    image = open_image(str(SICD), roots=[DATA])
    assert image.georeference
    assert image.georeference.kind == "igeolo"
    words = "corner points (IGEOLO), as it is a SICD without the `sar` extra"
    assert image.source_metadata[0]["georeference"] == words


@needs_data
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"</SCPPixel>", b"</SCPPixeX>", "without its XML|parsed"),
        (b"urn:SICD:1.2.1", b"urn:SICX:1.2.1", "without its XML"),
        (b"SCPCOA>", b"SCPCOX>", "cannot be used"),
        (b"<CollectType>MONOSTATIC", b"<CollectType>MONOPOLIST", "cannot be used"),
        (b'exponent1="0"', b'exponent1="x"', "beyond order"),
    ],
)
def test_the_corner_points_are_used_instead_of_an_unusable_model(
    edited: Callable[[bytes, bytes], Path], old: bytes, new: bytes, reason: str
) -> None:
    found = georeference(edited(old, new))
    assert found.kind == "igeolo"
    assert found.text.startswith("corner points (IGEOLO), as it is a SICD ")
    assert pytest.approx(45.2922, abs=1e-3) == found.to_world(np.array([[0.5, 0.5]]))[0, 1]
    assert re.search(reason, found.text)


def segments(body: str, prologue: str = "") -> str:
    return f'{prologue}<des_list><SICD xmlns="urn:SICD:1.3.0">{body}</SICD></des_list>'


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be parsed"),
        (segments("&l9;", f'<!DOCTYPE des_list [<!ENTITY l0 "lol">{LAUGHS}]>'), "entities|parsed"),
        (segments("", '<!DOCTYPE des_list SYSTEM "http://127.0.0.1:9/a.dtd">'), "entities"),
        (segments("&a;", '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]>'), "entities"),
        (segments("&a;"), "cannot be parsed"),
        (segments("<a>" * 5000 + "</a>" * 5000), "cannot be parsed"),
        (segments('<P><Coef exponent1="99999999">1</Coef></P>'), "beyond order"),
        ("<des_list/>", "without its XML"),
        ("<des_list><SICD/></des_list>", "without its XML"),
        (segments("").replace("urn:SICD", "urn:other"), "without its XML"),
    ],
)
def test_xml_that_is_not_safe_is_not_used(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        model_xml(text, "SICD")


PLACE = (-17.5, 179.99999, 320.0)  # latitude, longitude, metres: the antimeridian runs through
SPACING, REFERENCE, FOOTPRINT = np.array([0.75, 0.5]), np.array([30.0, 20.0]), (60, 40)
TO_WORLD = pyproj.Transformer.from_crs(4978, 4326, always_xy=True)


def axes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors of a product's rows and columns, in a plane that leans by a degree."""
    east, north, up = (f(PLACE) for f in (sarkit.wgs84.east, sarkit.wgs84.north, sarkit.wgs84.up))
    row = -0.8 * north + 0.6 * east + 0.02 * up
    column = np.cross(up, row)
    return row / np.linalg.norm(row), column / np.linalg.norm(column)


def planar(measurement: Any) -> None:
    grid = measurement["PlaneProjection"]
    row, column = axes()
    grid["ProductPlane"] = {"RowUnitVector": row, "ColUnitVector": column}


def geographic(measurement: Any) -> None:
    measurement["GeographicProjection"]["ReferencePoint"]["Point"] = REFERENCE


def polynomial(measurement: Any) -> None:
    grid = measurement["PolynomialProjection"]
    latitude, longitude, _ = PLACE
    grid["RowColToLat"] = np.array([[latitude, 1e-6], [-7e-6, 0]])
    grid["RowColToLon"] = np.array([[longitude, 5e-6], [2e-6, 0]])
    inverse = np.linalg.inv([[-7e-6, 1e-6], [2e-6, 5e-6]])
    for name, (by_latitude, by_longitude) in zip(("Row", "Col"), inverse, strict=True):
        offset = -by_latitude * latitude - by_longitude * longitude
        grid[f"LatLonTo{name}"] = np.array([[offset, by_longitude], [by_latitude, 0]])


def cylindrical(measurement: Any) -> None:
    measurement["CylindricalProjection"]["StripmapDirection"] = axes()[1]


def test_a_product_has_the_xml_of_its_number() -> None:
    two = "".join(f'<SIDD xmlns="urn:SIDD:2.0.0"><N>{n}</N></SIDD>' for n in (1, 2))
    both = f'<des_list>{two}<SICD xmlns="urn:SICD:1.3.0"><N>3</N></SICD></des_list>'
    assert model_xml(both, "SIDD").findtext("{*}N") == "1"
    assert model_xml(both, "SIDD", 2).findtext("{*}N") == "2"
    assert model_xml(both, "SICD").findtext("{*}N") == "3"
    with pytest.raises(ValueError, match="without its XML"):
        model_xml(both, "SIDD", 3)


def product(file: Path, grid: str, fill: Callable[[Any], None]) -> Path:
    """A SIDD with one grid, by sarkit's writer."""
    root = etree.Element("{urn:SIDD:3.0.0}SIDD", nsmap={None: "urn:SIDD:3.0.0"})
    wrapped = sidd.ElementWrapper(root)
    collection = wrapped["ExploitationFeatures"].add("Collection")
    collection["Information"]["CollectionDateTime"] = datetime(2024, 5, 6, tzinfo=UTC)
    wrapped["Display"]["PixelType"] = "MONO8I"
    wrapped["GeoData"]["ImageCorners"] = np.array(
        [[-17.4, 179], [-17.4, 179.1], [-17.5, 179.1], [-17.5, 179]]
    )
    measurement = wrapped["Measurement"]
    measurement["PixelFootprint"] = FOOTPRINT
    fill(measurement)
    reference = measurement[grid]["ReferencePoint"]
    reference["ECEF"] = sarkit.wgs84.geodetic_to_cartesian(PLACE)
    reference["Point"] = REFERENCE
    if grid != "PolynomialProjection":
        measurement[grid]["SampleSpacing"] = SPACING / (30 if grid[0] == "G" else 1)
    open_to_all = sidd.NitfSecurityFields(clas="U")
    metadata = sidd.NitfMetadata(
        file_header_part=sidd.NitfFileHeaderPart(ostaid="here", security=open_to_all),
        images=[
            sidd.NitfProductImageMetadata(
                xmltree=etree.ElementTree(root),
                im_subheader_part=sidd.NitfImSubheaderPart(security=open_to_all),
                de_subheader_part=sidd.NitfDeSubheaderPart(security=open_to_all),
            )
        ],
    )
    with file.open("wb") as target, sidd.NitfWriter(target, metadata) as writer:
        writer.write_image(0, np.zeros(FOOTPRINT, np.uint8))
    return file


def rows_columns(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return points[:, 1] - 0.5, points[:, 0] - 0.5


def on_plane(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the definition (NGA.STND.0025-1, 3.2), and pyproj."""
    away = np.stack(rows_columns(points), axis=1) - REFERENCE
    places = sarkit.wgs84.geodetic_to_cartesian(PLACE) + (away * SPACING) @ np.stack(axes())
    return np.stack(TO_WORLD.transform(*places.T), axis=1)[:, :2]


def on_degrees(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the definition (3.4): spacing in seconds of arc."""
    rows, columns = rows_columns(points)
    latitude = PLACE[0] - (rows - REFERENCE[0]) * SPACING[0] / 30 / 3600
    return np.stack([PLACE[1] + (columns - REFERENCE[1]) * SPACING[1] / 30 / 3600, latitude], 1)


def on_polynomial(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the definition (3.11)."""
    rows, columns = rows_columns(points)
    latitude = PLACE[0] - 7e-6 * rows + 1e-6 * columns
    return np.stack([PLACE[1] + 2e-6 * rows + 5e-6 * columns, latitude], axis=1)


incomplete = pytest.mark.filterwarnings("ignore:.*Element")  # the writer misses what we leave out


@incomplete
@pytest.mark.parametrize(
    ("grid", "fill", "definition", "text"),
    [
        ("PlaneProjection", planar, on_plane, "SIDD planar grid"),
        ("GeographicProjection", geographic, on_degrees, "SIDD geographic grid"),
        ("PolynomialProjection", polynomial, on_polynomial, "SIDD polynomial grid"),
    ],
)
def test_a_sidd_agrees_with_its_grid(
    tmp_path: Path,
    grid: str,
    fill: Callable[[Any], None],
    definition: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    text: str,
) -> None:
    image = open_image(str(product(tmp_path / "a.nitf", grid, fill)), roots=[tmp_path])
    found = image.georeference
    assert found
    assert (found.kind, found.text) == ("sidd", text)
    assert image.source_metadata[0]["georeference"] == text
    points = np.random.default_rng(0).uniform(0, 1, (500, 2)) * FOOTPRINT[::-1]
    world = found.to_world(points)
    assert metres(world, definition(points)) < 1e-3
    assert np.abs(world[:, 0]).max() <= 180
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-3)
    np.testing.assert_allclose(found.to_image(world - [360, 0]), points, atol=1e-3)
    assert found.to_world(points[:0]).shape == found.to_image(points[:0]).shape == (0, 2)


@incomplete
def test_a_cylindrical_sidd_uses_its_corner_points(tmp_path: Path) -> None:
    file = product(tmp_path / "a.nitf", "CylindricalProjection", cylindrical)
    found = georeference(file)
    assert found.kind == "igeolo"
    assert "a SIDD whose sensor model cannot be used: its grid is" in found.text


@incomplete
def test_a_sidd_without_its_reference_point_uses_its_corner_points(tmp_path: Path) -> None:
    file = product(tmp_path / "a.nitf", "PlaneProjection", planar)
    file.write_bytes(file.read_bytes().replace(b"ReferencePoint>", b"ReferencePoinX>"))
    assert georeference(file).kind == "igeolo"
