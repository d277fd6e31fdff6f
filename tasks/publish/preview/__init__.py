"""A picture of an image with its features or raster, small enough for a screen whatever its size.

`preview` draws features that are in memory or read as they are drawn, `preview_of_files` those of
published files, or their raster. `FeatureLayer` collects features while they pass on their way to
other files; `layer_of_raster` is the layer of a raster that is not published yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.imagery import Image
from tasks.publish.preview.layer import COLUMNS, FeatureLayer
from tasks.publish.preview.picture import Encoding, compose, encode
from tasks.publish.preview.raster_layer import RasterLayer, layer_of_file, layer_of_raster

__all__ = [
    "FeatureLayer",
    "RasterLayer",
    "draw",
    "layer_of_file",
    "layer_of_raster",
    "preview",
    "preview_of_files",
]

SIZE = 1024
"""Pixels of a picture's longer side, the legend left out."""

_BATCH = 1 << 15  # features read from a file at a time
_PUBLISHED = {  # the columns of published GeoParquet by those of `detections.SCHEMA`
    "x_min": "image_x_min",
    "y_min": "image_y_min",
    "x_max": "image_x_max",
    "y_max": "image_y_max",
    "score": "score",
    "class_name": "class",
    "geometry": "image_geometry",
}
_TILE_COLUMNS = ["x", "y", "width", "height", "state"]


def preview(
    image: Image,
    features: Iterable[pa.Table],
    ledger: pa.Table | None = None,
    *,
    size: int = SIZE,
    encoding: Encoding = "PNG",
    read_role: str | None = None,
) -> bytes:
    """Draw an image with its features in one pass over them, in bounded memory.

    Features are drawn at their places in pixels, so that the image needs no georeference: as
    outlines if they are large enough to see their shape, else as dots. Of a great many outlines,
    those with the best scores are drawn, and the others are dots too.

    Args:
        image: The image; its pixels are read from its overviews.
        features: Tables of `detections.SCHEMA`, of which the boxes, scores, classes and geometries
            are used; pixels of the full image.
        ledger: Table of `coverage.SCHEMA`, whose failed tiles are hatched; None for no tiles.
        size: Pixels of the longer side of the picture, the legend left out.
        encoding: PNG or JPEG.
        read_role: IAM role to read the image with, or None for the process's own identity.

    Returns:
        The encoded picture.

    Raises:
        ImageError: The image cannot be read, or was replaced.
    """
    layer = FeatureLayer(image.size, size)
    for table in features:
        layer.add(table)
    return draw(image, layer, ledger, encoding=encoding, read_role=read_role)


def draw(
    image: Image,
    layer: FeatureLayer | RasterLayer,
    ledger: pa.Table | None,
    *,
    encoding: Encoding = "PNG",
    max_bytes: int | None = None,
    read_role: str | None = None,
) -> bytes:
    """Draw an image with features that were collected before, or with its raster.

    Args:
        image: The image.
        layer: Its features or its raster.
        ledger: As for `preview`.
        encoding: PNG or JPEG.
        max_bytes: Size that the encoded picture must not exceed; None for any size. It is made
            smaller until it fits.
        read_role: As for `preview`.

    Raises:
        ImageError: The image cannot be read, or was replaced.
    """
    return encode(compose(image, layer, ledger, read_role), encoding, max_bytes)


def preview_of_files(
    image: Image,
    features: Path | None,
    coverage: Path | None = None,
    raster: Path | None = None,
    *,
    size: int = SIZE,
    encoding: Encoding = "PNG",
    read_role: str | None = None,
) -> bytes:
    """Draw an image with the raster that was published for it, or else with the features.

    Args:
        image: The image.
        features: The published GeoParquet, or None if no features were published.
        coverage: The published ledger, or None for no tiles.
        raster: The published class map or values; None if the model answers with features.
        size: As for `preview`.
        encoding: PNG or JPEG.
        read_role: As for `preview`.

    Raises:
        ImageError: The image cannot be read, or was replaced.
        PublishError: The raster cannot be read.
    """
    ledger = None if coverage is None else pq.read_table(coverage, columns=_TILE_COLUMNS)
    if raster is not None:
        layer = layer_of_file(raster, size)
        return draw(image, layer, ledger, encoding=encoding, read_role=read_role)
    tables = () if features is None else _published_features(features)
    return preview(image, tables, ledger, size=size, encoding=encoding, read_role=read_role)


def _published_features(path: Path) -> Iterator[pa.Table]:
    """The features of a GeoParquet file with the columns of `detections.SCHEMA` that are drawn."""
    with pq.ParquetFile(path) as file:
        columns = [_PUBLISHED[name] for name in COLUMNS]
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield pa.table({name: batch[_PUBLISHED[name]] for name in COLUMNS})
