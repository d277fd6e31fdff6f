"""The file formats that features are published in.

To add a format:

1. Write a module beside this one with a writer, a context manager like `geojson.geojson_file`. It
   opens the file at a path, yields a function that appends one `FeatureBatch`, and completes the
   file when the context is left. An image can have more features than fit in memory, so a writer
   keeps no more than a few batches. `FeatureBatch` documents its contents: every geometry is valid
   and not empty, or None if the image has no georeference.
2. Add its name to `FeatureFormat` of `tasks.request`, which outputs name it by.
3. Add a line to `FORMATS`: the format's name, the ending of its files and the writer.

Each S3 and File output that names the format then gets the file, `publish` reports its URI under
the format's name, and a later run of the same job replaces or removes it. The tests in
`tests/unit/test_publish_formats.py` run for every line of `FORMATS`; add tests of what is special
to the format, such as that a reader of the format opens the file. docs/how-it-works.md lists what
is published.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.imagery import Georeference
from tasks.publish.centers import csv_file
from tasks.publish.coco import coco_file
from tasks.publish.feature_batches import WriteBatch
from tasks.publish.flatgeobuf import flatgeobuf_file
from tasks.publish.geojson import geojson_file, geojsonl_file
from tasks.publish.geopackage import geopackage_file
from tasks.publish.geoparquet import geoparquet_file
from tasks.publish.image_results import ImageResults
from tasks.publish.page import page_file
from tasks.publish.vector_tiles import pmtiles_file
from tasks.request import FeatureFormat


class OpenWriter(Protocol):
    """Opens a file of a format for writing."""

    def __call__(self, path: Path, results: ImageResults) -> AbstractContextManager[WriteBatch]:
        """Open a file.

        Args:
            path: File to write; its folder exists.
            results: The results that the features are of. Without a georeference every geometry is
                None, and the file must not claim a place on the Earth.

        Returns:
            A context that gives the function to append a batch with. The file is complete when the
            context is left without an error.
        """


@dataclass(frozen=True)
class Format:
    """A file format for features.

    Attributes:
        ending: Ending of a file's name, without the leading dot.
        open_writer: Opens a file for writing.
        without_features: Whether there is a file too if no features are published: every tile
            failed, or the model answers with pixels alone.
        georeferenced: Whether only the features of an image with a georeference can be written.
        packages: Packages of the extra `formats` that the writer needs.
        in_pixels: Whether a file without a georeference is in pixels and so of a kind of its own,
            with `pixels.` before its ending: its readers expect longitude and latitude.
    """

    ending: str
    open_writer: OpenWriter
    without_features: bool = False
    georeferenced: bool = False
    packages: tuple[str, ...] = ()
    in_pixels: bool = False


FORMATS = {
    FeatureFormat.GEOJSON.value: Format("geojson", geojson_file, in_pixels=True),
    FeatureFormat.GEOJSONL.value: Format("geojsonl", geojsonl_file, in_pixels=True),
    FeatureFormat.PARQUET.value: Format("parquet", geoparquet_file),
    FeatureFormat.GPKG.value: Format("gpkg", geopackage_file, packages=("pyogrio",)),
    FeatureFormat.FLATGEOBUF.value: Format("fgb", flatgeobuf_file, packages=("pyogrio",)),
    FeatureFormat.PMTILES.value: Format(
        "pmtiles", pmtiles_file, georeferenced=True, packages=("pyogrio", "pmtiles")
    ),
    FeatureFormat.COCO.value: Format("coco.json", coco_file),
    FeatureFormat.CSV.value: Format("csv", csv_file),
    FeatureFormat.HTML.value: Format("html", page_file, without_features=True),
}
"""Every format that features are written in, by its name."""

_PIXELS = "pixels."

COVERAGE = "coverage"
"""Name of the ledger of tiles among the published files."""

RASTER, SCORES, CLASSES, STYLE = "raster", "scores", "classes", "style"
"""Names of the class map or values, of the probabilities, of the table of the map's classes, and of
the colours for QGIS, among the published files."""

STYLED = FeatureFormat.FLATGEOBUF.value
"""The format with which the colours of features are published for QGIS, which takes them for the
GeoJSON beside it too. A GeoPackage has its own."""

STAC = FeatureFormat.STAC.value
"""The format that is no file of features: the STAC Item of the other files (`tasks.publish.stac`).
"""

_IN_PIXELS = {
    f"{_PIXELS}{name}": f"{_PIXELS}{each.ending}"
    for name, each in FORMATS.items()
    if each.in_pixels
}
FILE_ENDINGS = (
    {name: each.ending for name, each in FORMATS.items()}
    | _IN_PIXELS
    | {
        STAC: "stac.json",
        RASTER: "tif",
        SCORES: "scores.tif",
        CLASSES: "tif.aux.xml",
        STYLE: "qml",
        COVERAGE: "coverage.parquet",
    }
)
"""The ending of each kind of published file, features before the ledger."""

_SWATHS_ALONE = {FeatureFormat.GEOJSON.value, FeatureFormat.PARQUET.value, COVERAGE}
SHARED_KINDS = frozenset(FILE_ENDINGS.keys() - _SWATHS_ALONE)
"""Those with whose endings somebody else may have files: an image, a style, a page."""


def kind_of(name: str, georeference: Georeference | None) -> str:
    """The kind of file that a format has of an image with this georeference, or without one."""
    return f"{_PIXELS}{name}" if georeference is None and FORMATS[name].in_pixels else name


def format_of(kind: str) -> str | None:
    """The name of the format that a kind of file has; None for a ledger or a raster."""
    name = kind.removeprefix(_PIXELS)
    return name if name in FORMATS else None
