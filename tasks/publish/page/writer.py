"""Writes the page of an image's results as their features pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.publish.colours import OVER_IMAGES, PALETTE
from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.image_results import ImageResults
from tasks.publish.page.best_features import BestFeatures
from tasks.publish.page.columns import packed
from tasks.publish.page.document import document
from tasks.publish.page.facts import facts
from tasks.publish.page.pictures import SIZE, Overlay, QuickLook, overlay, quick_look
from tasks.publish.page.tile_areas import STATES, tile_areas

_OTHERS = PALETTE[7]
_NO_PICTURE = QuickLook("", "No picture: the image was not read for this page")


@contextmanager
def page_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write the page of an image; of a great many features it has those with the best scores.

    Args:
        path: File to write; its folder exists.
        results: The results.

    Yields:
        A function that adds a batch. The file is complete when the context is left.
    """
    best, origin = BestFeatures(), results.origin

    def write(batch: FeatureBatch) -> None:
        features = batch.features
        best.add(features.table, features.image_geometry, features.centers, batch.ids)

    yield write
    provenance = results.metadata.provenance
    if origin is None:
        words = facts(provenance, results.ledger, None, None)
        path.write_text(page(words, None, best, results.ledger), "utf-8", newline="\n")
        return
    layer: Overlay | None = None
    if origin.raster is not None:
        from tasks.publish.preview import layer_of_raster  # noqa: PLC0415 - as in `pictures`

        layer = overlay(layer_of_raster(origin.raster, min(SIZE, max(origin.image.size))))
    words = facts(
        provenance,
        results.ledger,
        origin.image,
        origin.request,
        usage=origin.usage,
        cost=origin.cost,
    )
    look = quick_look(origin.image, origin.request.image_read_role)
    text = page(words, origin.image.size, best, results.ledger, look=look, layer=layer)
    path.write_text(text, "utf-8", newline="\n")


def page(
    words: Mapping[str, Any],
    size: tuple[int, int] | None,
    best: BestFeatures,
    ledger: pa.Table,
    *,
    look: QuickLook = _NO_PICTURE,
    layer: Overlay | None = None,
) -> str:
    """The text of a page.

    Args:
        words: As `facts` returns them.
        size: Width and height of the image in pixels; None if not known.
        best: Its features.
        ledger: Table of `coverage.SCHEMA` with all its tiles.
        look: The image's picture.
        layer: The raster.
    """
    columns, classes = best.columns()
    tiles = tile_areas(ledger)
    text, index = packed(columns | tiles.columns)
    width, height = size or _extent(ledger)
    contents = {
        **words,
        "width": width,
        "height": height,
        "features": best.count,
        "classes": classes,
        "colours": OVER_IMAGES,
        "others": _OTHERS,
        "states": STATES,
        "tileReasons": tiles.reasons,
        "look": look._asdict(),
        "layer": layer and layer._asdict(),
        "columns": index,
    }
    name = str(words["image"]).rsplit("/", 1)[-1]
    return document(f"{name} – Swath", contents, text)


def _extent(ledger: pa.Table) -> tuple[int, int]:
    """Width and height of the image, by its tiles."""
    if not len(ledger):
        return 1, 1
    sides = (("x", "width"), ("y", "height"))
    width, height = (int((ledger[a].to_numpy() + ledger[b].to_numpy()).max()) for a, b in sides)
    return width, height
