"""CSV of the features' centres, for spreadsheets and scripts (RFC 4180, UTF-8)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.image_results import ImageResults
from tasks.results.detections import BOX_COLUMNS

_NUMBERS = ("score", "longitude", "latitude", "x", "y", *BOX_COLUMNS)
_SCHEMA = pa.schema(
    [("id", pa.string()), ("class", pa.string()), *((name, pa.float64()) for name in _NUMBERS)]
)
_FORMULA = r"^([=+\-@\t\r])"  # what spreadsheets calculate, or run, when they open a file
_DECIMALS = 10  # of a degree: 11 µm


@contextmanager
def csv_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:  # noqa: ARG001
    """Write a line for each feature: id, class, score, its centre and its box.

    `longitude` and `latitude` (EPSG:4326) are empty if the feature is not geolocated. `x` and `y`
    are the centre in pixels of the image, corner-origin, and the box is in these pixels too. A
    class that a spreadsheet would take for a formula has an apostrophe before it.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    # late: a job whose outputs do not name the format does not need it
    import pyarrow.csv  # noqa: PLC0415

    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    with pyarrow.csv.CSVWriter(str(path), _SCHEMA, write_options=options) as writer:

        def write(batch: FeatureBatch) -> None:
            writer.write_table(_lines(batch))

        yield write


def _lines(batch: FeatureBatch) -> pa.Table:
    features, table = batch.features, batch.features.table
    longitude, latitude = np.round(features.centers.T, _DECIMALS) + 0.0
    missing = np.isnan(longitude)
    x, y = shapely.get_coordinates(shapely.centroid(features.image_geometry)).T
    columns = {
        "id": batch.ids,
        "class": pc.replace_substring_regex(table["class_name"], _FORMULA, r"'\1"),
        "score": table["score"],
        "longitude": pa.array(longitude, mask=missing),
        "latitude": pa.array(latitude, mask=missing),
        "x": x,
        "y": y,
        **{name: table[name] for name in BOX_COLUMNS},
    }
    return pa.table(columns, schema=_SCHEMA)
