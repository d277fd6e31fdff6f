"""Sensor models and elevation models that lie in S3."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from tasks.aws.clients import client
from tasks.errors import ImageError
from tasks.imagery import open_image
from tasks.imagery.georeference.ground import ground_of
from tasks.storage import objects

SICD = Path(__file__).parents[2].parent / "shared" / "data" / "sicd_50x50.nitf"
EXTENT = (-74.0, 45.0, -73.0, 46.0)
PLACES = np.random.default_rng(0).uniform([-73.9, 45.1], [-73.1, 45.9], (500, 2))


@pytest.fixture
def bucket(aws: str) -> str:
    name = f"dem-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    file = tmp_path / "N45W074.tif"
    heights = np.add(*np.meshgrid(np.arange(300.0), 2 * np.arange(300.0)))
    shape = {"width": 300, "height": 300, "count": 1, "dtype": "float64"}
    place = {"crs": "EPSG:4326", "transform": Affine(1 / 300, 0, -74, 0, -1 / 300, 46)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(heights, 1)
    return file


def expected() -> NDArray[np.float64]:
    columns, rows = ((PLACES - [-74, 46]) * [300, -300] - 0.5).T
    heights: NDArray[np.float64] = columns + 2 * rows
    return heights


def test_heights_come_from_a_tile_a_folder_or_a_vrt_in_s3(bucket: str, tile: Path) -> None:
    folder = f"s3://{bucket}/world/dem"
    objects.put(f"{folder}/N45W074/N45W074.tif", tile)
    objects.put(f"{folder}/N10E010.tif", b"elsewhere, and not opened")
    objects.put(f"s3://{bucket}/world/demo/N45W074.tif", b"another folder")
    objects.put(
        f"{folder}.vrt",
        b'<VRTDataset rasterXSize="300" rasterYSize="300"><SRS>EPSG:4326</SRS>'
        b"<GeoTransform>-74,0.0033333333333333335,0,46,0,-0.0033333333333333335</GeoTransform>"
        b'<VRTRasterBand dataType="Float64" band="1"><SimpleSource><SourceFilename '
        b'relativeToVRT="1">dem/N45W074/N45W074.tif</SourceFilename></SimpleSource>'
        b"</VRTRasterBand></VRTDataset>",
    )
    for uri in (f"{folder}/N45W074/N45W074.tif", folder, f"{folder}/", f"{folder}.vrt"):
        ground = ground_of(0, uri, EXTENT)
        assert ground.text == f"over {uri}"
        np.testing.assert_allclose(ground.heights(PLACES), expected(), atol=1e-6)


def test_a_vrt_on_disk_of_tiles_in_s3(bucket: str, tile: Path, tmp_path: Path) -> None:
    objects.put(f"s3://{bucket}/a.tif", tile)
    vrt = tmp_path / "dem.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="300" rasterYSize="300"><SRS>EPSG:4326</SRS>'
        "<GeoTransform>-74,0.0033333333333333335,0,46,0,-0.0033333333333333335</GeoTransform>"
        '<VRTRasterBand dataType="Float64" band="1"><SimpleSource>'
        f"<SourceFilename>/vsis3/{bucket}/a.tif</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    np.testing.assert_allclose(
        ground_of(0, str(vrt), EXTENT).heights(PLACES), expected(), atol=1e-6
    )


@pytest.mark.parametrize("key", ["absent.tif", "absent.vrt", "absent"])
def test_an_absent_elevation_model_is_reported(bucket: str, key: str) -> None:
    with pytest.raises(ImageError, match=rf"SWATH_DEM_URI: .*{bucket}/{key}"):
        ground_of(0, f"s3://{bucket}/{key}", EXTENT)
    with pytest.raises(ImageError, match=r"SWATH_DEM_URI: .*grant s3:ListBucket"):
        ground_of(0, f"s3://{bucket}-of-nobody/{key.partition('.')[0]}", EXTENT)


@pytest.mark.skipif(not SICD.is_file(), reason="../shared/data is not on this machine")
def test_a_sicd_in_s3_is_georeferenced_as_on_disk(bucket: str, tile: Path) -> None:
    pytest.importorskip("sarkit", reason="the extra `sar` is not installed")
    objects.put(f"s3://{bucket}/a.nitf", SICD)
    objects.put(f"s3://{bucket}/dem/N45W074.tif", tile)
    points = np.random.default_rng(0).uniform(0, 50, (100, 2))
    for dem_there, dem_here in ((None, None), (f"s3://{bucket}/dem", str(tile))):
        there = open_image(f"s3://{bucket}/a.nitf", dem=dem_there).georeference
        here = open_image(str(SICD), roots=[SICD.parent], dem=dem_here).georeference
        assert there
        assert here
        assert there.kind == "sicd"
        np.testing.assert_allclose(there.to_world(points), here.to_world(points), atol=1e-9)
