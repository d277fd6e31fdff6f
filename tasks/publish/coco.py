"""COCO JSON in pixels of the image, for correcting annotations and training again.

The format of https://cocodataset.org/#format-data, with the scores of a result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.image_results import ImageResults

_IMAGE = 1  # identifier of the only image
_SIDES = (("x", "width"), ("y", "height"))  # columns of the ledger


@contextmanager
def coco_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as annotations of one image; the same features give the same bytes.

    An annotation has its outline as polygons in pixels, without holes, its area, its box (x, y,
    width, height), its score, and the feature's id as `feature`. Categories are numbered from 1 in
    the order in which classes occur.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    categories: dict[str, int] = {}
    count = 0
    with path.open("wb") as sink:

        def write(batch: FeatureBatch) -> None:
            nonlocal count
            for annotation in _annotations(batch, categories, count):
                count += 1
                sink.write((b",\n" if count > 1 else b"\n") + orjson.dumps(annotation))

        sink.write(b'{"info":' + _info(results) + b',\n"images":' + _images(results))
        sink.write(b',\n"annotations":[')
        yield write
        named = [{"id": number, "name": name} for name, number in categories.items()]
        sink.write(b'\n],\n"categories":' + orjson.dumps(named) + b"}\n")


def _info(results: ImageResults) -> bytes:
    provenance = results.metadata.provenance
    return (
        b'{"description":' + orjson.dumps(provenance.image)
        + b',"swath":' + provenance.json_bytes + b"}"
    )  # fmt: skip


def _images(results: ImageResults) -> bytes:
    url = results.metadata.provenance.image
    image: dict[str, Any] = {"id": _IMAGE, "file_name": url.rsplit("/", 1)[-1]}
    width, height = _size(results)
    image |= {"width": width, "height": height}
    if results.metadata.acquired is not None:
        image["date_captured"] = results.metadata.acquired
    return orjson.dumps([image], option=orjson.OPT_UTC_Z)


def _size(results: ImageResults) -> tuple[int, int]:
    """Width and height of the image."""
    if results.origin is not None:
        return results.origin.image.size
    ledger = results.ledger
    ends = [(ledger[at].to_numpy() + ledger[by].to_numpy()) for at, by in _SIDES]
    width, height = (int(end.max(initial=0)) for end in ends)
    return width, height


def _annotations(
    batch: FeatureBatch, categories: dict[str, int], count: int
) -> Iterator[dict[str, Any]]:
    features, table = batch.features, batch.features.table
    geometry = features.image_geometry
    bounds = shapely.bounds(geometry)
    sizes = bounds[:, 2:] - bounds[:, :2]
    polygons, owners = _rings(geometry)
    first = np.searchsorted(owners, np.arange(len(features) + 1))
    rows = zip(
        batch.ids, table["class_name"].to_pylist(), table["score"].to_pylist(),
        np.column_stack([bounds[:, :2], sizes]).tolist(), shapely.area(geometry).tolist(),
        first[:-1].tolist(), first[1:].tolist(), strict=True,
    )  # fmt: skip
    for identity, name, score, box, area, start, stop in rows:
        count += 1
        yield {
            "id": count,
            "image_id": _IMAGE,
            "category_id": categories.setdefault(name, len(categories) + 1),
            "segmentation": polygons[start:stop],
            "area": area,
            "bbox": box,
            "iscrowd": 0,
            "score": score,
            "feature": identity,
        }


def _rings(geometry: NDArray[np.object_]) -> tuple[list[list[float]], NDArray[np.int64]]:
    """The exterior rings as x, y, x, y, … and the number of the feature of each."""
    parts, owners = shapely.get_parts(geometry, return_index=True)
    parts, inner = shapely.get_parts(parts, return_index=True)  # of a collection's multi-polygons
    owners = owners[inner]
    areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    rings, owners = shapely.get_exterior_ring(parts[areal]), owners[areal]
    coordinates, ring = shapely.get_coordinates(rings, return_index=True)
    ends = np.searchsorted(ring, np.arange(len(rings) + 1))
    # the last vertex of a ring is its first
    return [coordinates[a : b - 1].ravel().tolist() for a, b in pairwise(ends)], owners
