"""An encoded tile has the position that it has in its image."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, encoder, open_image
from tasks.imagery.encoding.rpc00b import rpc00b
from tasks.imagery.georeference.rpc import RpcGeoreference
from tests.examples import examples

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SICD = DATA / "sicd_50x50.nitf"
GEOD = pyproj.Geod(ellps="WGS84")
WIDTH, HEIGHT = 700, 500
WINDOWS = [Window(0, 0, 64, 48), Window(301, 207, 64, 48), Window(17, 400, 1, 1)]
RPCS = RPC(
    height_off=121.4,
    height_scale=499.6,
    lat_off=39.81234567,
    lat_scale=0.0501234,
    line_num_coeff=[0.01, 0.02, -1.0, 0.03, 0.001, 0, 0.002, 0, 0.0005] + [0.0] * 11,
    line_den_coeff=[1.0, 0.001, 0.002, 0] + [0.0] * 16,
    line_off=255.37,
    line_scale=260.2,
    long_off=-84.12345678,
    long_scale=0.0712345,
    samp_num_coeff=[0.005, 1.0, 0.02, -0.02, 0.001, 0.0003, 0, 0.001] + [0.0] * 12,
    samp_den_coeff=[1.0, -0.001, 0.001, 0] + [0.0] * 16,
    samp_off=349.8,
    samp_scale=351.1,
)
CONTROL = [
    GroundControlPoint(
        row=row, col=col, x=500_000 + 2 * col + 1e-4 * row * col, y=4e6 - 2 * row + 2e-4 * col**2
    )
    for row in (0, 240.5, HEIGHT)
    for col in (0, 333.25, 500, WIDTH)
]
PLACES: dict[str, dict[str, Any]] = {
    "south up": {"crs": "EPSG:32618", "transform": Affine(0.5, 0, 5e5, 0, 0.5, 4e6)},
    "north up": {"crs": "EPSG:32618", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)},
    "rotated": {"crs": "EPSG:32618", "transform": Affine(0.4, 0.3, 5e5, 0.3, -0.4, 4e6)},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 18, 0, -1e-5, -34)},
    "gcp": {"crs": "EPSG:32618", "gcps": CONTROL},
    "rpc": {"rpcs": RPCS},
}

# The fields of ICHIPB by STDI-0002, Volume 1, Appendix B: name and bytes.
ICHIPB = [("XFRM_FLAG", 2), ("SCALE_FACTOR", 10), ("ANAMRPH_CORR", 2), ("SCANBLK_NUM", 2)]
ICHIPB += [
    (f"{image}_{axis}_{corner}", 12)
    for image in ("OP", "FI")
    for corner in (11, 12, 21, 22)
    for axis in ("ROW", "COL")
]
ICHIPB += [("FI_ROW", 8), ("FI_COL", 8)]


def metres(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """The largest distance between two sets of longitude, latitude."""
    return float(np.max(GEOD.inv(one[:, 0], one[:, 1], two[:, 0], two[:, 1])[2]))


def quietly(work: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return work()


def source(tmp_path: Path, name: str = "image.tif", **place: Any) -> Image:
    """A georeferenced image, opened from a GeoTIFF."""
    profile = {"width": WIDTH, "height": HEIGHT, "count": 1, "dtype": "uint8", "driver": "GTiff"}
    with quietly(lambda: rasterio.open(tmp_path / name, "w", **profile, **place)) as sink:
        sink.write(np.zeros((1, HEIGHT, WIDTH), np.uint8))
    return open_image(str(tmp_path / name), roots=[tmp_path])


def nitf_source(tmp_path: Path, place: dict[str, Any], **options: str) -> Image:
    """A georeferenced image, opened from a NITF that GDAL wrote."""
    source(tmp_path, "plain.tif", **place)
    file = tmp_path / "source.ntf"
    quietly(lambda: rasterio.shutil.copy(tmp_path / "plain.tif", file, driver="NITF", **options))
    file.with_suffix(".ntf.aux.xml").unlink(missing_ok=True)  # its RPC are more exact
    return open_image(str(file), roots=[tmp_path])


def tile_of(image: Image, window: Window, tile_format: str, compression: str, file: Path) -> Image:
    """A tile of an image, opened as an image of its own."""
    pixels = np.ones((image.bands, window.height, window.width), image.dtype)
    encode = encoder(image, tile_format, compression)
    for other in (
        Window(5, 9, window.width, window.height),
        window,
    ):  # the first tile serves as the template
        data = encode(TilePixels(Tile(0, other), pixels, None))
    file.write_bytes(data)
    return open_image(str(file), roots=[file.parent])


def ichipb(file: str) -> dict[str, float]:
    """The ICHIPB of a file by the standard's table."""
    with quietly(lambda: rasterio.open(file)) as dataset:
        record = dataset.tags(ns="TRE")["ICHIPB"]
    assert len(record) == 224
    fields = {}
    for name, length in ICHIPB:
        fields[name], record = float(record[:length]), record[length:]
    return fields


def grid(window: Window) -> NDArray[np.float64]:
    """Centres of the corner pixels of a window's own raster, and its centre."""
    right, bottom = window.width - 0.5, window.height - 0.5
    middle = [window.width / 2, window.height / 2]
    return np.array([[0.5, 0.5], [right, 0.5], [right, bottom], [0.5, bottom], middle])


def origin(window: Window) -> NDArray[np.float64]:
    return np.array([window.col_off, window.row_off], float)


def apart(tile: Image, image: Image, window: Window, points: NDArray[np.float64]) -> float:
    """Distance in metres between pixels of a tile by its own georeference and by the image's."""
    assert tile.georeference
    assert image.georeference
    there = image.georeference.to_world(points + origin(window))
    return metres(tile.georeference.to_world(points), there)


@pytest.mark.parametrize("compression", ["NONE", "LZW"])
@pytest.mark.parametrize("place", PLACES)
def test_gtiff_tiles_have_the_images_georeference(
    place: str, compression: str, tmp_path: Path
) -> None:
    image = source(tmp_path, **PLACES[place])
    for window in WINDOWS:
        tile = tile_of(image, window, "GTIFF", compression, tmp_path / "tile.tif")
        assert tile.georeference
        assert image.georeference
        assert tile.georeference.kind == image.georeference.kind
        assert apart(tile, image, window, grid(window)) < 1e-3


@pytest.mark.parametrize("compression", ["NONE", "J2K"])
@pytest.mark.parametrize("place", ["north up", "rotated", "degrees", "gcp"])
def test_nitf_tiles_have_corner_coordinates(place: str, compression: str, tmp_path: Path) -> None:
    image = source(tmp_path, **PLACES[place])
    assert image.georeference
    for window in WINDOWS[:2]:
        tile = tile_of(image, window, "NITF", compression, tmp_path / "tile.ntf")
        assert tile.georeference
        assert tile.georeference.kind == "igeolo"
        assert apart(tile, image, window, grid(window)[:4]) < 0.15  # a millionth of a degree
        with rasterio.open(tile.path) as dataset:
            corners = dataset.tags()["NITF_IGEOLO"]
        first = grid(window)[:1] + origin(window)
        longitude, latitude = image.georeference.to_world(first)[0]
        degrees = int(corners[:2]) + int(corners[2:4]) / 60 + int(corners[4:6]) / 3600
        assert degrees == pytest.approx(abs(latitude), abs=0.51 / 3600)
        assert corners[6] == ("N" if latitude > 0 else "S")
        degrees = int(corners[7:10]) + int(corners[10:12]) / 60 + int(corners[12:14]) / 3600
        assert degrees == pytest.approx(abs(longitude), abs=0.51 / 3600)
        assert corners[14] == ("E" if longitude > 0 else "W")


@pytest.mark.parametrize("compression", ["NONE", "J2K"])
@pytest.mark.parametrize("make", [source, lambda tmp_path, **p: nitf_source(tmp_path, p)])
def test_nitf_tiles_have_the_images_rpc(
    make: Callable[..., Image], compression: str, tmp_path: Path
) -> None:
    image = make(tmp_path, rpcs=RPCS)
    for window in WINDOWS:
        tile = tile_of(image, window, "NITF", compression, tmp_path / "tile.ntf")
        assert tile.georeference
        assert tile.georeference.kind == "rpc"
        # Its HEIGHT_OFF is whole, and that is the height where our reader looks.
        assert apart(tile, image, window, grid(window)) < 0.2


def test_a_nitf_tile_has_the_rpc_of_the_full_image_and_ichipb(tmp_path: Path) -> None:
    image = nitf_source(tmp_path, {"rpcs": RPCS})
    tile = tile_of(image, WINDOWS[1], "NITF", "NONE", tmp_path / "tile.ntf")
    with rasterio.open(image.path) as whole, quietly(lambda: rasterio.open(tile.path)) as part:
        assert part.tags(ns="TRE")["RPC00B"] == whole.tags(ns="TRE")["RPC00B"]
        assert part.rpcs.line_off == whole.rpcs.line_off  # GDAL leaves ICHIPB to its user
    fields = ichipb(tile.path)
    assert fields["FI_COL_11"] - fields["OP_COL_11"] == WINDOWS[1].col_off
    assert fields["FI_ROW_11"] - fields["OP_ROW_11"] == WINDOWS[1].row_off


@pytest.mark.parametrize("compression", ["NONE", "J2K"])
@pytest.mark.parametrize("place", [{}, PLACES["north up"], PLACES["rpc"]])
def test_ichipb_has_the_position_in_the_full_image(
    place: dict[str, Any], compression: str, tmp_path: Path
) -> None:
    image = source(tmp_path, **place)
    tile = tile_of(image, WINDOWS[1], "NITF", compression, tmp_path / "tile.ntf")
    assert ichipb(tile.path) == {
        "XFRM_FLAG": 0,
        "SCALE_FACTOR": 1,
        "ANAMRPH_CORR": 0,
        "SCANBLK_NUM": 0,
        "OP_ROW_11": 0.5,
        "OP_COL_11": 0.5,
        "OP_ROW_12": 0.5,
        "OP_COL_12": 63.5,
        "OP_ROW_21": 47.5,
        "OP_COL_21": 0.5,
        "OP_ROW_22": 47.5,
        "OP_COL_22": 63.5,
        "FI_ROW_11": 207.5,
        "FI_COL_11": 301.5,
        "FI_ROW_12": 207.5,
        "FI_COL_12": 364.5,
        "FI_ROW_21": 254.5,
        "FI_COL_21": 301.5,
        "FI_ROW_22": 254.5,
        "FI_COL_22": 364.5,
        "FI_ROW": HEIGHT,
        "FI_COL": WIDTH,
    }


@pytest.mark.parametrize("compression", ["NONE", "J2K"])
def test_a_chip_of_a_chip_refers_to_the_full_image(compression: str, tmp_path: Path) -> None:
    image = source(tmp_path, **PLACES["rpc"])
    chip = tile_of(image, Window(100, 200, 300, 250), "NITF", "NONE", tmp_path / "chip.ntf")
    window = Window(41, 32, 64, 48)
    tile = tile_of(chip, window, "NITF", compression, tmp_path / "tile.ntf")
    fields = ichipb(tile.path)
    assert (fields["FI_COL_11"], fields["FI_ROW_11"]) == (141.5, 232.5)
    assert (fields["FI_COL_22"], fields["FI_ROW_22"]) == (204.5, 279.5)
    assert (fields["FI_COL"], fields["FI_ROW"]) == (WIDTH, HEIGHT)
    assert apart(tile, chip, window, grid(window)) < 1e-3
    assert apart(tile, image, Window(141, 232, 64, 48), grid(window)) < 0.2


@examples(0.2)
@given(
    scale=st.sampled_from([0.5, 1, 2, 4]),
    x=st.integers(0, 4000),
    y=st.integers(0, 4000),
)
def test_a_nitf_that_is_a_chip_is_read_by_its_ichipb(
    tmp_path_factory: pytest.TempPathFactory, scale: float, x: int, y: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("chip")
    ends = [(0.5, 0.5), (0.5, WIDTH - 0.5), (HEIGHT - 0.5, 0.5), (HEIGHT - 0.5, WIDTH - 0.5)]
    record = f"00{scale:010.5f}0000"
    record += "".join(f"{row:012.3f}{column:012.3f}" for row, column in ends)
    record += "".join(
        f"{row * scale + y:012.3f}{column * scale + x:012.3f}" for row, column in ends
    )
    image = nitf_source(tmp_path, {"rpcs": RPCS}, TRE=f"ICHIPB={record}{9000:08d}{9000:08d}")
    with rasterio.open(image.path) as dataset:
        full = RpcGeoreference(dataset.rpcs)
    points = np.array([[0.0, 0.0], [WIDTH, 0], [320.25, 77.5]])
    assert image.georeference
    assert (
        metres(image.georeference.to_world(points), full.to_world(points * scale + [x, y])) < 0.01
    )
    tile = tile_of(image, WINDOWS[1], "NITF", "NONE", tmp_path / "tile.ntf")
    assert ichipb(tile.path)["SCALE_FACTOR"] == scale
    assert apart(tile, image, WINDOWS[1], grid(WINDOWS[1])) < 0.05


@examples(0.4)
@given(
    offsets=st.tuples(*[st.floats(-2000, 60_000)] * 2),
    scales=st.tuples(*[st.floats(100, 30_000)] * 2),
    place=st.tuples(st.floats(-179, 179), st.floats(-80, 80), st.floats(-100.0, 4000.0)),
    extent=st.tuples(*[st.floats(0.01, 0.3)] * 2),
)
def test_rpc00b_loses_only_its_seventh_digit(
    offsets: tuple[float, float],
    scales: tuple[float, float],
    place: tuple[float, float, float],
    extent: tuple[float, float],
) -> None:
    rpcs = copy(RPCS)
    rpcs.samp_off, rpcs.line_off = offsets
    rpcs.samp_scale, rpcs.line_scale = scales
    rpcs.long_off, rpcs.lat_off, rpcs.height_off = place
    rpcs.long_scale, rpcs.lat_scale = extent
    back = by_the_standard(rpc00b(rpcs))
    world = np.array(place) + np.array([[0, 0, 0], [1, -1, 1], [-0.5, 0.8, -1]]) * [*extent, 400]
    # A coefficient ends at 5e-7; an offset out of its field's range is made up by the numerator.
    grown = 1 + np.abs(offsets) / scales
    assert (
        np.abs(evaluated(back, world) - evaluated(rpcs, world)) < 1e-5 * np.array(scales) * grown
    ).all()


def by_the_standard(record: str) -> RPC:
    """RPC00B by the field lengths of STDI-0002, Volume 1, Appendix E."""
    assert len(record) == 1041
    assert record[0] == "1"
    lengths = [7, 7, 6, 5, 8, 9, 5, 6, 5, 8, 9, 5] + [12] * 80
    ends = np.cumsum([1, *lengths])
    numbers = [float(record[start:end]) for start, end in pairwise(ends)]
    names = "line_off samp_off lat_off long_off height_off"
    names += " line_scale samp_scale lat_scale long_scale height_scale"
    fields: dict[str, Any] = dict(zip(names.split(), numbers[2:12], strict=True))
    for index, name in enumerate(("line_num", "line_den", "samp_num", "samp_den")):
        fields[f"{name}_coeff"] = numbers[12 + 20 * index : 32 + 20 * index]
    return RPC(**fields)


def evaluated(rpcs: RPC, world: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample and line (n, 2) of longitude, latitude, height (n, 3), by the definition."""
    x = (world[:, 0] - rpcs.long_off) / rpcs.long_scale
    y = (world[:, 1] - rpcs.lat_off) / rpcs.lat_scale
    z = (world[:, 2] - rpcs.height_off) / rpcs.height_scale
    terms = [x**0, x, y, z, x * y, x * z, y * z, x * x, y * y, z * z, x * y * z, x**3]
    terms += [x * y * y, x * z * z, x * x * y, y**3, y * z * z, x * x * z, y * y * z, z**3]
    powers = np.stack(terms, axis=1)
    samp = powers @ rpcs.samp_num_coeff / (powers @ rpcs.samp_den_coeff)
    line = powers @ rpcs.line_num_coeff / (powers @ rpcs.line_den_coeff)
    return np.stack(
        [samp * rpcs.samp_scale + rpcs.samp_off, line * rpcs.line_scale + rpcs.line_off], axis=1
    )


@pytest.mark.parametrize("compression", ["NONE", "J2K"])
def test_nitf_tiles_repeat_the_images_markings_and_records(
    compression: str, tmp_path: Path
) -> None:
    header = {"FSCLAS": "R", "FSCLSY": "XX", "ISCLAS": "R", "ISCLSY": "XX", "ISREL": "AAA BBB"}
    header |= {"ISORCE": "A SENSOR", "IDATIM": "20200102030405", "ICAT": "MS", "FTITLE": "A TITLE"}
    record = "PIAIMC=" + "7" * 362
    image = nitf_source(tmp_path, PLACES["north up"], TRE=record, **header)
    tile = tile_of(image, WINDOWS[1], "NITF", compression, tmp_path / "tile.ntf")
    with rasterio.open(tile.path) as dataset:
        tags, records = dataset.tags(), dataset.tags(ns="TRE")
    assert {name: tags[f"NITF_{name}"].strip() for name in header} == header
    assert records["PIAIMC"] == "7" * 362
    assert tile.source_metadata[0]["sourceDT"] == image.source_metadata[0]["sourceDT"]


def test_records_that_describe_only_the_whole_image_are_left_out(tmp_path: Path) -> None:
    image = nitf_source(tmp_path, PLACES["north up"], TRE="STDIDC=" + "0" * 89)
    tile = tile_of(image, WINDOWS[1], "NITF", "NONE", tmp_path / "tile.ntf")
    with rasterio.open(image.path) as whole, rasterio.open(tile.path) as part:
        assert "STDIDC" in whole.tags(ns="TRE")
        assert set(part.tags(ns="TRE")) == {"ICHIPB", "BLOCKA"}


def test_records_that_do_not_fit_the_subheader_are_left_out(tmp_path: Path) -> None:
    image = nitf_source(tmp_path, PLACES["rpc"])
    assert image.nitf
    records = (("HUGETR", b"x" * 98_000), *image.nitf.records, ("SMALLT", b"y" * 20))
    image = replace(image, nitf=replace(image.nitf, records=records))
    tile = tile_of(image, WINDOWS[1], "NITF", "NONE", tmp_path / "tile.ntf")
    with rasterio.open(tile.path) as dataset:
        assert set(dataset.tags(ns="TRE")) == {"ICHIPB", "BLOCKA", "RPC00B", "SMALLT"}


def test_tiles_of_a_nitf_2_0_keep_its_classification(tmp_path: Path) -> None:
    image = nitf_source(tmp_path, {}, FHDR="NITF02.00", FSCLAS="R", ISCLAS="R")
    tile = tile_of(image, WINDOWS[1], "NITF", "NONE", tmp_path / "tile.ntf")
    with quietly(lambda: rasterio.open(tile.path)) as dataset:
        tags = dataset.tags()
    assert (tags["NITF_FHDR"], tags["NITF_FSCLAS"], tags["NITF_ISCLAS"]) == ("NITF02.10", "R", "R")


@pytest.mark.parametrize("tile_format", ["NITF", "GTIFF"])
def test_a_tile_without_a_position_has_no_geotags(tile_format: str, tmp_path: Path) -> None:
    earth = "+proj=geos +h=35785831 +lon_0=0 +datum=WGS84"  # a disc within the image
    place = {"crs": earth, "transform": Affine(20_000, 0, -7e6, 0, -20_000, 5e6)}
    image = source(tmp_path, **place)
    nowhere, somewhere = Window(0, 0, 64, 48), Window(318, 226, 64, 48)
    for window, known in [(nowhere, False), (somewhere, True), (nowhere, False)]:
        pixels = np.ones((1, window.height, window.width), np.uint8)
        file = tmp_path / "tile"
        file.write_bytes(
            encoder(image, tile_format, "NONE")(TilePixels(Tile(0, window), pixels, None))
        )
        tile = open_image(str(file), roots=[tmp_path])
        if tile_format == "NITF":
            assert (tile.georeference is not None) == known
        elif known:
            assert apart(tile, image, window, grid(window)) < 1e-3


def test_a_nitf_tile_that_gdal_splits_into_blocks_has_geotags(tmp_path: Path) -> None:
    image = replace(source(tmp_path, **PLACES["rpc"]), width=10_000)
    window = Window(3, 4, 9000, 1)  # beyond NITF's 8192 a block
    tile = tile_of(image, window, "NITF", "NONE", tmp_path / "tile.ntf")
    assert ichipb(tile.path)["FI_COL_11"] == 3.5
    assert tile.georeference
    assert tile.georeference.kind == "rpc"


@pytest.mark.skipif(not DATA.exists(), reason="no real imagery here")
@pytest.mark.parametrize("compression", ["NONE", "J2K"])
def test_tiles_of_a_real_nitf_keep_position_and_records(compression: str, tmp_path: Path) -> None:
    image = open_image(str(DATA / "wpafb_20091021_r3.ntf"), roots=[DATA])
    window = Window(1111, 703, 512, 512)
    tile = tile_of(image, window, "NITF", compression, tmp_path / "tile.ntf")
    assert apart(tile, image, window, grid(window)) < 0.3
    with rasterio.open(image.path) as whole, rasterio.open(tile.path) as part:
        assert part.tags(ns="TRE")["ENGRDA"] == whole.tags(ns="TRE")["ENGRDA"]
        assert part.tags()["NITF_ISCLTX"] == whole.tags()["NITF_ISCLTX"].upper()


@pytest.fixture
def sicd() -> Image:
    pytest.importorskip("sarkit", reason="the extra `sar` is not installed")
    if not SICD.exists():
        pytest.skip("no real imagery here")
    return open_image(str(SICD), roots=[DATA])


SICD_WINDOW = Window(7, 11, 20, 30)


def sicd_tile(image: Image, tile_format: str) -> tuple[bytes, NDArray[Any]]:
    with quietly(lambda: rasterio.open(image.path)) as dataset:
        pixels = dataset.read()
    encode = encoder(image, tile_format, "NONE")
    encode(TilePixels(Tile(0, Window(0, 0, 20, 30)), pixels[:, :30, :20], None))
    rows, columns = SICD_WINDOW.toslices()
    return encode(TilePixels(Tile(1, SICD_WINDOW), pixels[:, rows, columns], None)), pixels[
        :, rows, columns
    ]


def read_sicd(file: Path) -> tuple[NDArray[Any], Any]:
    """Pixels and XML of a SICD, by sarkit."""
    sarkit: Any = pytest.importorskip("sarkit.sicd")
    with file.open("rb") as opened, sarkit.NitfReader(opened) as reader:
        return reader.read_image(), reader.metadata.xmltree


def test_a_nitf_tile_of_a_sicd_is_a_sicd(sicd: Image, tmp_path: Path) -> None:
    import lxml.etree
    import sarkit.sicd

    data, pixels = sicd_tile(sicd, "NITF")
    file = tmp_path / "chip.ntf"
    file.write_bytes(data)
    chip, xml = read_sicd(file)
    complex_pixels = pixels[0] + 1j * pixels[1] if len(pixels) == 2 else pixels[0]
    np.testing.assert_array_equal(chip, complex_pixels)
    namespace = lxml.etree.QName(xml.getroot()).namespace
    schema = lxml.etree.XMLSchema(file=sarkit.sicd.VERSION_INFO[namespace]["schema"])
    assert schema.validate(xml), schema.error_log
    _, parent = read_sicd(SICD)
    path = "{*}ImageData/{*}"
    for name, more in (("FirstRow", 11), ("FirstCol", 7), ("FullImage/{*}NumRows", 0)):
        assert int(xml.findtext(path + name)) == int(parent.findtext(path + name)) + more
    assert xml.findtext(path + "NumRows") == "30"
    assert xml.findtext(path + "NumCols") == "20"


def test_a_sicd_chip_projects_as_its_parent_does(sicd: Image, tmp_path: Path) -> None:
    file = tmp_path / "chip.ntf"
    file.write_bytes(sicd_tile(sicd, "NITF")[0])
    chip = open_image(str(file), roots=[tmp_path])
    assert chip.georeference
    assert chip.georeference.kind == "sicd"
    assert apart(chip, sicd, SICD_WINDOW, grid(SICD_WINDOW)) < 1e-6
    with rasterio.open(file) as dataset:  # whose own corners are those of the chip
        points, _ = dataset.gcps
    corners = np.array([[point.x, point.y] for point in points])
    assert sicd.georeference
    there = sicd.georeference.to_world(
        np.array([[p.col, p.row] for p in points]) + origin(SICD_WINDOW)
    )
    assert metres(corners, there) < 25  # a second of arc


def test_other_tiles_of_a_sicd_keep_every_bit(sicd: Image, tmp_path: Path) -> None:
    data, pixels = sicd_tile(sicd, "GTIFF")
    file = tmp_path / "tile.tif"
    file.write_bytes(data)
    with rasterio.open(file) as dataset:
        assert dataset.read().tobytes() == pixels.tobytes()
    tile = open_image(str(file), roots=[tmp_path])
    assert apart(tile, sicd, SICD_WINDOW, grid(SICD_WINDOW)) < 0.01
    data, pixels = sicd_tile(sicd, "NPY")
    assert data.endswith(pixels.tobytes())


def test_a_format_that_would_lose_a_sensor_model_is_refused(sicd: Image) -> None:
    with pytest.raises(RequestError, match=r"sensor model \(SICD\).*use GTIFF/NONE.*NITF/NONE"):
        encoder(replace(sicd, dtype="int16"), "NITF", "J2K")
    assert sicd.nitf
    sidd = replace(sicd, nitf=replace(sicd.nitf, standard="SIDD"), dtype="uint8", bands=1)
    with pytest.raises(RequestError, match=r"imageProcessorTileFormat NITF.*\(SIDD\).*use GTIFF"):
        encoder(sidd, "NITF", "NONE")
