"""Features with plain columns, kept in a file until all are known, for formats of GIS programs.

Such a format needs the type of all geometries or the list of classes before its first row. The
features are written to a temporary Arrow file, and the format's file is made from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import shapely

from tasks.publish.feature_batches import FeatureBatch
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.image_results import ImageResults
from tasks.publish.measures import MEASURES
from tasks.results.detections import EMBEDDING

GEOMETRY = "geometry"
_DIMENSION = "dimension"
NOWHERE, POINTS, LINES, POLYGONS = -1, 0, 1, 2
"""Dimensions of geometries."""

_COLUMNS = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("class", pa.string(), nullable=False),  # the best class
    pa.field("score", pa.float64(), nullable=False),  # of the best class
    pa.field("acquired", pa.timestamp("ms", tz="UTC")),
    pa.field("area_square_metres", pa.float64()),
    pa.field("properties", pa.string(), nullable=False),  # JSON object: model's and request's
)
_NUL = "\0", "\N{SYMBOL FOR NULL}"  # which ends a text for GDAL, and what stands for it


def schema_of(metadata: FeatureMetadata) -> pa.Schema:
    """The columns: a geometry as WKB, and what is known of a feature as numbers and texts.

    Oriented boxes have their measures too, in columns of the same names as in GeoParquet.

    Properties are JSON text, so that large integers and nested values stay what they are. An
    embedding is a JSON array in a column of its own.
    """
    own = [pa.field(name, pa.float64()) for name in MEASURES] if metadata.oriented else []
    if metadata.embedding_size is not None:
        own.append(pa.field(EMBEDDING, pa.string()))
    wkb = {"ARROW:extension:name": "geoarrow.wkb"}
    return pa.schema([*_COLUMNS, *own, pa.field(GEOMETRY, pa.binary(), metadata=wkb)])


class FlatFeatures:
    """The features of an image in a temporary file.

    Attributes:
        schema: That of `schema_of`.
        classes: Number of features of each class.
        types: Types of the geometries of each dimension, as shapely names them; of `NOWHERE` if
            there are features without a geometry.
    """

    def __init__(self, path: Path, results: ImageResults) -> None:
        """Begin the temporary file; open it with `flat_features`."""
        self.schema = schema_of(results.metadata)
        self.classes: Counter[str] = Counter()
        self.types: dict[int, set[str]] = {}
        self._path, self._results = path, results
        self._stored = self.schema.append(pa.field(_DIMENSION, pa.int8()))
        self._file = pa.OSFile(str(path), "wb")
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(self._file, self._stored, options=options)

    def write(self, batch: FeatureBatch) -> None:
        """Append a batch."""
        features, metadata = batch.features, self._results.metadata
        table, count = features.table, len(features)
        pixels = self._results.georeference is None
        geometry = features.image_geometry if pixels else features.geometry
        dimensions = shapely.get_dimensions(geometry)
        kinds = np.column_stack([dimensions, shapely.get_type_id(geometry)])
        for row in np.unique(kinds, axis=0, return_index=True)[1]:
            one, types = geometry[row], self.types.setdefault(int(dimensions[row]), set())
            types.update(() if one is None else {one.geom_type})
        classes = pc.replace_substring(table["class_name"], *_NUL)
        for each in pc.value_counts(classes).to_pylist():
            self.classes[each["values"]] += each["counts"]
        columns = {
            "id": batch.ids,
            "class": classes,
            "score": table["score"],
            "acquired": pa.repeat(pa.scalar(metadata.acquired, pa.timestamp("ms", "UTC")), count),
            "area_square_metres": batch.areas,
            "properties": pa.array(batch.properties, pa.string()),
            GEOMETRY: shapely.to_wkb(geometry, byte_order=1),
            _DIMENSION: dimensions.astype(np.int8),
        }
        if metadata.oriented:
            columns |= batch.measures
        if batch.embeddings is not None:
            option = orjson.OPT_SERIALIZE_NUMPY
            texts = [orjson.dumps(vector, option=option).decode() for vector in batch.embeddings]
            columns[EMBEDDING] = texts
        self._writer.write_table(pa.table(columns, schema=self._stored))

    def batches(self, *dimensions: int) -> Iterator[pa.RecordBatch]:
        """The features whose geometries have one of some dimensions, in their order.

        No more can be appended then.
        """
        self.close()
        wanted = pa.array(dimensions, pa.int8())
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                rows = batch.filter(pc.is_in(batch[_DIMENSION], wanted))
                yield rows.select(self.schema.names)

    def close(self) -> None:
        """Complete the temporary file."""
        if not self._file.closed:
            with self._file:
                self._writer.close()


@contextmanager
def flat_features(path: Path, results: ImageResults) -> Iterator[FlatFeatures]:
    """Features in a temporary file beside another, which is made from them.

    Without a georeference the geometries are in pixels of the image, corner-origin, y downwards.

    Args:
        path: The other file.
        results: The results that the features are of.
    """
    temporary = path.with_name(f"{path.name}.arrow")
    features = FlatFeatures(temporary, results)
    try:
        yield features
    finally:
        features.close()
        temporary.unlink(missing_ok=True)
