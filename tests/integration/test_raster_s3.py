"""A raster in S3 is put together from parts: it is complete, or nothing of it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
import rasterio
from numpy.typing import NDArray

from tasks.aws.clients import client
from tasks.errors import PublishError
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid, Tile
from tasks.imagery import open_image
from tasks.publish import ImageResults, publish
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.rasters import raster_files
from tasks.raster import Painter, Raster, put_together
from tasks.request import FileOutput, Output, RasterOutput, S3Output
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.storage import conditional, objects
from tests.provenance import provenance

SIDE = 2200  # so that the scores take two parts of an upload, and there are several levels
OUTPUT = RasterOutput.model_validate(
    {
        "values": "values",
        "bands": ["height"],
        "blend": "clip",
    }
)
GRID = Grid(SIDE, SIDE, 550, 0)


def values(tile: Tile) -> NDArray[np.float32]:
    """(1, height, width) values that do not compress."""
    shape = 1, tile.window.height, tile.window.width
    return np.random.default_rng(tile.index).random(shape, np.float32)


@pytest.fixture
def bucket(aws: str) -> str:
    name = f"rasters-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def raster(bucket: str) -> Raster:
    return put_together(Painter(GRID, OUTPUT, None, values), [], f"s3://{bucket}/work/scratch")


@pytest.fixture
def results(raster: Raster, tmp_path: Path) -> ImageResults:
    path = tmp_path / "x.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ):  # fmt: skip
        pass
    image = open_image(str(path), roots=[tmp_path])
    tiles = [TileRecord(GRID.tile(*divmod(at, 4)), TileState.INFERRED) for at in range(16)]
    ledger: pa.Table = measure(coverage.ledger(tiles), Cells.of(GRID, None))
    metadata = FeatureMetadata(provenance())
    files = raster_files(image, raster, provenance())
    return ImageResults(None, metadata, ledger, image.georeference, files)


def uploads(bucket: str) -> int:
    return len(client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", []))


def names(bucket: str) -> list[str]:
    return objects.list_names(f"s3://{bucket}/out")


def test_a_raster_of_several_parts_is_the_same_in_every_output(
    bucket: str, results: ImageResults, tmp_path: Path
) -> None:
    outputs: list[Output] = [
        S3Output(type="S3", bucket=bucket, prefix="out"),
        FileOutput(type="File", path=str(tmp_path / "out")),
    ]
    done = publish(outputs, results, "x.tif", [tmp_path]).uris
    body = objects.get(done["raster"])
    assert len(body) > 16 << 20
    assert client("s3").head_object(Bucket=bucket, Key="out/x.tif.tif")["ETag"].endswith('-2"')
    assert body == Path(done["raster-2"]).read_bytes()
    with rasterio.open(done["raster-2"]) as found:
        pixels = found.read(1)
    for at in range(16):
        tile = GRID.tile(*divmod(at, 4))
        np.testing.assert_array_equal(pixels[tile.window.toslices()], values(tile)[0])
    assert uploads(bucket) == 0


def test_a_raster_whose_blocks_are_lost_midway_is_absent(
    bucket: str, results: ImageResults
) -> None:
    for name in objects.list_names(f"s3://{bucket}/work"):
        found = client("s3").get_object(Bucket=bucket, Key=f"work/{name}")["Body"].read()
        if len(found) > 8 << 20:  # the last of the file's blocks: those of the raster itself
            objects.put(f"s3://{bucket}/work/{name}", found[: len(found) * 9 // 10])
    output = S3Output(type="S3", bucket=bucket, prefix="out")
    with pytest.raises(PublishError, match="it is not whole"):
        publish([output], results, "x.tif")
    assert "x.tif.tif" not in names(bucket)
    assert uploads(bucket) == 0


def test_a_raster_that_another_process_replaced_meanwhile_is_left(
    bucket: str, results: ImageResults
) -> None:
    uri = f"s3://{bucket}/out/x.tif.tif"

    def interrupted() -> Iterator[bytes]:
        pieces = results.rasters["raster"]()
        yield next(pieces)
        objects.put(uri, b"of another process")
        yield from pieces

    assert not conditional.put_if(uri, interrupted, None)
    assert objects.get(uri) == b"of another process"
    assert uploads(bucket) == 0


def test_a_raster_of_another_job_is_kept(bucket: str, results: ImageResults) -> None:
    output = S3Output(type="S3", bucket=bucket, prefix="out")
    publish([output], results, "x.tif")
    first = objects.get(f"s3://{bucket}/out/x.tif.tif")
    metadata = FeatureMetadata(provenance(job="other"))
    other = ImageResults(None, metadata, results.ledger, results.georeference, results.rasters)
    done = publish([output], other, "x.tif").uris
    assert done["raster"] == f"s3://{bucket}/out/x.tif.other.tif"
    assert objects.get(f"s3://{bucket}/out/x.tif.tif") == first
