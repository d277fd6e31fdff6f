"""The page of results that are published already, from their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from tasks.imagery import Image
from tasks.publish.manifest import Manifest
from tasks.publish.page.best_features import BestFeatures
from tasks.publish.page.facts import facts
from tasks.publish.page.pictures import SIZE, QuickLook, overlay, quick_look
from tasks.publish.page.writer import page
from tasks.publish.provenance import Provenance
from tasks.results import coverage
from tasks.results.detections import BOX_COLUMNS

_BATCH = 1 << 15  # features read at a time
_CENTRES = ["center_longitude", "center_latitude"]
_BOXES = {f"image_{name}": name for name in BOX_COLUMNS}


def page_of_files(
    provenance: Provenance,
    ledger: Path,
    features: Path | None,
    raster: Path | None,
    image: Image | str,
    *,
    read_role: str | None = None,
) -> str:
    """The text of a page.

    Args:
        provenance: Of the results, as their manifest has it; of a manifest, what the run used too.
        ledger: The published ledger.
        features: The published GeoParquet; None if no features were published.
        raster: The published class map or values; None if there is none.
        image: The image, or why it cannot be opened.
        read_role: IAM role to read the image with, or None.

    Raises:
        PublishError: The raster cannot be read.
    """
    table = pq.read_table(ledger, columns=coverage.MEASURED.names)
    best = BestFeatures()
    for batch in () if features is None else _batches(features):
        geometry = shapely.from_wkb(batch["image_geometry"].to_numpy())
        centers = np.stack([batch[name].to_numpy() for name in _CENTRES], axis=1)
        ids = batch["id"].to_pylist()
        best.add(batch.rename_columns(_BOXES | {"class": "class_name"}), geometry, centers, ids)
    layer = None
    if raster is not None:
        from tasks.publish.preview import layer_of_file  # noqa: PLC0415 - as in `pictures`

        layer = overlay(layer_of_file(raster, SIZE))
    used: dict[str, Any] = {}
    if isinstance(provenance, Manifest):
        used = {"usage": provenance.usage, "cost": provenance.cost}
    if isinstance(image, Image):
        words, size = facts(provenance, table, image, None, **used), image.size
        return page(words, size, best, table, look=quick_look(image, read_role), layer=layer)
    look = QuickLook("", f"No picture: {image}")
    words = facts(provenance, table, None, None, **used)
    return page(words, None, best, table, look=look, layer=layer)


def _batches(path: Path) -> Iterator[pa.Table]:
    columns = ["id", *_BOXES, "image_geometry", "score", "class", *_CENTRES]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield pa.Table.from_batches([batch])
