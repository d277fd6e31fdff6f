"""Pixels without data hold the fill value in every tile that an endpoint gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.session import AWSSession

from tasks.grid.tiles import Grid
from tasks.imagery import TilePixels, TilePreparation, encoder, open_image, read_tiles, with_nodata
from tasks.inference.description.resample import Validity, resize
from tasks.inference.tile_decoding import decode_tile
from tests.tiffs import write

SIDE = 64
COLLAR = np.zeros((SIDE, SIDE), np.bool_)
COLLAR[:, :26] = True  # 40 % of the tile


def noise(dtype: str, bands: int = 3) -> NDArray[Any]:
    values = np.random.default_rng(3).integers(1, 120, (bands, SIDE, SIDE))
    return np.asarray(values.astype(dtype))


def only_tile(file: Path, nodata: float | None = None) -> tuple[TilePreparation, TilePixels]:
    """How the tiles of an image are prepared, and the only one as it is read."""
    image = with_nodata(open_image(str(file), roots=[file.parent]), nodata)
    (region,) = Grid(SIDE, SIDE, SIDE, 0).regions(SIDE)
    (tile,) = read_tiles(image, Grid(SIDE, SIDE, SIDE, 0).tiles(region))
    assert isinstance(tile, TilePixels)
    return TilePreparation(image), tile


def collared(file: Path, kind: str) -> tuple[NDArray[Any], float | None]:
    """Write an image without data in its collar; its pixels, and the nodata of the request."""
    dtype = "float32" if kind in ("nan", "undeclared nan") else "int16"
    pixels = noise("uint8" if kind == "alpha" else dtype)
    given: dict[str, Any] = {}
    stored = pixels.copy()
    stored[:, COLLAR] = np.nan if dtype == "float32" else 77
    if kind in ("nodata", "requested"):
        stored[:, COLLAR] = -9999
        given = {"nodata": -9999} if kind == "nodata" else {}
    if kind == "nan":
        given = {"nodata": np.nan}
    if kind == "alpha":
        stored = np.concatenate([stored, np.where(COLLAR, 0, 255).astype(np.uint8)[None]])
        given = {"photometric": "rgb", "alpha": "yes"}
    write(file, stored, ~COLLAR if kind == "mask" else None, **given)
    return pixels, -9999 if kind == "requested" else None


@pytest.mark.parametrize("kind", ["nodata", "requested", "mask", "alpha", "nan", "undeclared nan"])
def test_pixels_without_data_hold_the_fill_value(tmp_path: Path, kind: str) -> None:
    pixels, nodata = collared(tmp_path / "a.tif", kind)
    prepare, tile = only_tile(tmp_path / "a.tif", nodata)
    sent = prepare(tile)
    np.testing.assert_array_equal(sent.pixels[:3], np.where(COLLAR, 0, pixels))
    np.testing.assert_array_equal(sent.valid, ~COLLAR)
    assert sent.dtype == tile.dtype
    other = TilePreparation(prepare.source, fill=9)(tile)
    np.testing.assert_array_equal(other.pixels[:3], np.where(COLLAR, 9, pixels))


@pytest.mark.parametrize("kind", ["nodata", "requested", "mask", "alpha", "nan"])
@pytest.mark.parametrize("compression", ["NONE", "LZW"])
def test_a_geotiff_tile_says_which_of_its_pixels_hold_data(
    tmp_path: Path, kind: str, compression: str
) -> None:
    _, nodata = collared(tmp_path / "a.tif", kind)
    prepare, tile = only_tile(tmp_path / "a.tif", nodata)
    sent = prepare(tile)
    body = encoder(prepare.image, "GTIFF", compression)(sent)
    np.testing.assert_array_equal(decode_tile(body), sent.pixels)
    with rasterio.MemoryFile(body) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.dataset_mask() != 0, ~COLLAR)


@pytest.mark.parametrize(("form", "compression"), [("GTIFF", "LZW"), ("NITF", "J2K")])
def test_a_tile_is_encoded_and_decoded_without_a_session_of_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, compression: str
) -> None:
    write(tmp_path / "a.tif", noise("int16"), ~COLLAR)
    prepare, tile = only_tile(tmp_path / "a.tif")
    encode = encoder(prepare.image, form, compression)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "known")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(AWSSession, "__init__", None)
    assert decode_tile(encode(prepare(tile))).shape == tile.shape


def test_tiles_without_such_pixels_are_sent_as_they_were_read(tmp_path: Path) -> None:
    plain, declared = noise("int16"), tmp_path / "declared.tif"
    write(tmp_path / "plain.tif", plain)
    prepare, tile = only_tile(tmp_path / "plain.tif")
    assert prepare.image is prepare.source
    assert prepare(tile) is tile
    prepare, tile = only_tile(write(declared, plain, nodata=-9999))
    sent = prepare(tile)
    assert sent.valid is None
    np.testing.assert_array_equal(sent.pixels, plain)


def test_a_tile_whose_nodata_value_is_the_fill_value_keeps_its_bytes(tmp_path: Path) -> None:
    pixels = noise("uint8")
    pixels[:, COLLAR] = 0
    prepare, tile = only_tile(write(tmp_path / "a.tif", pixels, nodata=0))
    encode = encoder(prepare.image, "GTIFF", "NONE")
    assert encode(prepare(tile)) == encoder(prepare.source, "GTIFF", "NONE")(tile)


def test_nan_and_infinity_never_reach_a_model(tmp_path: Path) -> None:
    pixels = np.full((3, SIDE, SIDE), 5, np.float32)
    pixels[0, 0, :3] = np.nan, np.inf, -np.inf
    pixels[:, 1, 0] = np.inf
    prepare, tile = only_tile(write(tmp_path / "a.tif", pixels))
    sent = prepare(tile)
    assert sent.pixels[0, 0, :4].tolist() == [0, 0, 0, 5]
    assert sent.pixels[:, 1, :2].tolist() == [[0, 5]] * 3
    assert sent.valid is not None
    assert np.argwhere(~sent.valid).tolist() == [[1, 0]]


def test_nodata_in_one_band_is_filled_unless_it_may_be_a_measured_value(tmp_path: Path) -> None:
    signed, colours, floats = noise("int16"), noise("uint8"), noise("float32")
    signed[0, 5, 40], colours[0, 5, 40], floats[0, 5, 40] = -9999, 255, np.nan
    found = []
    for name, pixels, nodata in [("s", signed, -9999), ("c", colours, 255), ("f", floats, -1.0)]:
        prepare, tile = only_tile(write(tmp_path / f"{name}.tif", pixels, nodata=nodata))
        sent = prepare(tile)
        assert sent.valid is None
        found.append(float(sent.pixels[0, 5, 40]))
    assert found == [0, 255, 0]


@pytest.mark.parametrize("method", ["nearest", "linear", "cubic", "area", "lanczos4"])
@pytest.mark.parametrize("size", [(96, 80), (33, 40)])
def test_resizing_takes_no_share_of_the_fill_value(method: str, size: tuple[int, int]) -> None:
    band = np.full((SIDE, SIDE), 1000, np.int16)
    valid = np.ones((SIDE, SIDE), np.bool_)
    valid[COLLAR] = False
    valid[40:, 50:] = False
    band[~valid] = -5
    for part, values in Validity.of(valid).resize(band, size, method):
        assert set(np.unique(values.round(3))) <= {-5, 1000}
        assert (values == -5).any()
        assert part.stop <= size[1]


def test_resizing_is_the_plain_one_away_from_pixels_without_data() -> None:
    band = noise("float32", bands=1)[0]
    filled = np.where(COLLAR, 0, band)
    for method in ("linear", "cubic", "area", "lanczos4"):
        plain = np.concatenate([part for _, part in resize(band, (96, 96), method)])
        masked = Validity.of(~COLLAR).resize(filled, (96, 96), method)
        near = np.concatenate([part for _, part in masked])
        np.testing.assert_allclose(near[:, 50:], plain[:, 50:], rtol=1e-6)
        assert (near[:, :39] == 0).all()
