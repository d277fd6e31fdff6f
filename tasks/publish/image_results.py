"""The results of an image's run, and the passes over its features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.cost.money import Cost, cost_of
from tasks.cost.usage import Usage
from tasks.imagery import Georeference, Image
from tasks.publish.feature_batches import FeatureBatch, feature_batches
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.raster import Raster
from tasks.request import Request
from tasks.storage.conditional import Pieces

if TYPE_CHECKING:
    from tasks.publish.preview import FeatureLayer

ReadDetections = Callable[[], Iterable[pa.Table]]
"""Reads the merged detections from the beginning: tables of `detections.SCHEMA`."""


@dataclass(frozen=True)
class Origin:
    """What the results of an image are of, for files that tell it: a page, a catalog's item.

    Attributes:
        request: The message.
        image: One of its images.
        raster: The raster of the image, if the model answers with pixels.
        model_version: Changes with the model; empty if it is not known.
        usage: What was used until the publication; None if it is not known.
    """

    request: Request
    image: Image
    raster: Raster | None = None
    model_version: str = ""
    usage: Usage | None = None

    @property
    def cost(self) -> Cost | None:
        """What that costs; None if it is not known, or there are no prices."""
        if self.usage is None:
            return None
        return cost_of(self.usage, self.request.image_processor.names)


@dataclass(frozen=True)
class ImageResults:
    """The results of an image's run, ready to be published.

    Attributes:
        read_detections: Reads the merged detections each time it is called: tables of
            `detections.SCHEMA` by tile and ordinal, each loaded only after the one before it was
            used. None if every tile failed.
        metadata: What all features have in common.
        ledger: Table of `coverage.MEASURED` with all tiles of the image.
        georeference: The image's georeference, or None.
        rasters: Gives the bytes of each raster file, by its kind in `FILE_ENDINGS`.
        origin: What they are of; None if only features are written, as their formats need none.
    """

    read_detections: ReadDetections | None
    metadata: FeatureMetadata
    ledger: pa.Table
    georeference: Georeference | None
    rasters: Mapping[str, Pieces] = field(default_factory=dict)
    origin: Origin | None = None

    def batches(self) -> Iterator[FeatureBatch]:
        """The features, in the order of tile and ordinal."""
        tables = () if self.read_detections is None else self.read_detections()
        return feature_batches(tables, self.georeference, self.metadata)


class CountedBatches:
    """The features of an image, for one or more passes.

    Attributes:
        repaired: Features with a repaired geometry, as the last complete pass found.
        classes: Features of each class, as the last complete pass found.
        dimension: That of most geometries (0, 1 or 2), as the last complete pass found.
        layer: The features for a preview, from the last complete pass; or None.
    """

    def __init__(self, results: ImageResults, new_layer: Callable[[], FeatureLayer] | None) -> None:
        """Count the features of results; `new_layer` is as for `publish`."""
        self._results = results
        self._new_layer = new_layer
        self.repaired = 0
        self.classes: Counter[str] = Counter()
        self.dimension = 2
        self.layer = new_layer and new_layer()

    def __iter__(self) -> Iterator[FeatureBatch]:
        """Make a pass over the features."""
        repaired, classes, dimensions = 0, Counter[str](), np.zeros(3, int)
        layer = self._new_layer and self._new_layer()
        for batch in self._results.batches():
            table = batch.features.table
            repaired += int(batch.features.repaired.sum())
            for each in pc.value_counts(table["class_name"]).to_pylist():
                classes[each["values"]] += each["counts"]
            dimensions += np.bincount(batch.features.image.dimensions, minlength=3)
            if layer is not None:
                layer.add(table)
            yield batch
        self.repaired, self.classes, self.layer = repaired, classes, layer
        self.dimension = int(dimensions.argmax()) if dimensions.any() else 2
