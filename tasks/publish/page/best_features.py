"""The features with the best scores of an image, collected in bounded memory as all pass by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from tasks.publish.page.columns import Columns
from tasks.results.detections import BOX_COLUMNS, boxes

LIMIT = 100_000
"""Features that a page has at most."""

_MAX_VERTICES = 1 << 21  # of the outlines of a page
_MAX_OUTLINE = 1 << 14  # vertices of one outline
_TOLERANCE = 0.25  # pixels of the image between an outline and the line that is drawn
_MAX_PENDING_BYTES = 1 << 26  # of outlines that may yet be left out
_DEGREES = 10_000_000  # parts of a degree in which centres are kept: 11 mm
_UNPLACED = np.iinfo(np.int32).min  # in place of a longitude and latitude

_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.float32()) for name in BOX_COLUMNS),
        pa.field("score", pa.float64()),
        pa.field("class", pa.int32()),  # number of the class as it first occurred
        pa.field("longitude", pa.int32()),
        pa.field("latitude", pa.int32()),
        pa.field("id", pa.binary(16)),
        pa.field("outline", pa.binary()),  # WKB; null of a box
    ]
)


class BestFeatures:
    """The features of an image for its page.

    Attributes:
        count: Number of features added.
        classes: Number of features of each class added.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        """None yet; the best `limit` of those that are added will be kept."""
        self.count = 0
        self.classes: Counter[str] = Counter()
        self._limit = limit
        self._numbers: dict[str, int] = {}
        self._kept: list[pa.Table] = [_SCHEMA.empty_table()]
        self._least = -np.inf  # score above which a feature is kept

    def add(
        self,
        table: pa.Table,
        geometry: NDArray[np.object_],
        centers: NDArray[np.float64],
        ids: Sequence[str],
    ) -> None:
        """Add n features; of equal scores, those that were added first are kept.

        Args:
            table: The boxes, `score` and `class_name` of `detections.SCHEMA`.
            geometry: (n,) shapely geometries in pixels of the full image.
            centers: (n, 2) longitude, latitude; NaN of a feature that is not geolocated.
            ids: (n,) 32 hexadecimal digits each.
        """
        self.count += len(table)
        classes = self._count(table["class_name"])
        scores = table["score"].to_numpy()
        rows = np.flatnonzero(scores > self._least)
        if not len(rows):
            return
        corners = boxes(table)[rows]
        places = np.where(np.isnan(centers[rows]), _UNPLACED / _DEGREES, centers[rows])
        places = np.rint(places * _DEGREES).astype(np.int32)
        columns = {
            **dict(zip(BOX_COLUMNS, corners.astype(np.float32).T, strict=True)),
            "score": scores[rows],
            "class": classes[rows],
            "longitude": places[:, 0],
            "latitude": places[:, 1],
            "id": pa.array([bytes.fromhex(ids[row]) for row in rows.tolist()], pa.binary(16)),
            "outline": pa.array(_outlines(geometry[rows], corners), pa.binary()),
        }
        self._kept.append(pa.table(columns, schema=_SCHEMA))
        too_many = sum(map(len, self._kept)) > self._limit + self._limit // 4
        if too_many or sum(part["outline"].nbytes for part in self._kept) > _MAX_PENDING_BYTES:
            self._kept = [self._best()]

    def columns(self) -> tuple[Columns, list[tuple[str, int]]]:
        """The columns of the best features, best first, and all classes with their numbers.

        The classes are ordered by their number of features, the greatest first, and their index is
        the `class` of a feature.
        """
        table = self._best()
        ranked = sorted(self.classes.items(), key=lambda item: (-item[1], item[0]))
        rank = np.zeros(len(ranked), np.uint32)
        for index, (name, _) in enumerate(ranked):
            rank[self._numbers[name]] = index
        smallest = np.min_scalar_type(max(len(ranked) - 1, 0))
        columns: Columns = {
            "boxes": np.stack([table[name].to_numpy() for name in BOX_COLUMNS], axis=1),
            "scores": table["score"].to_numpy().astype(np.float32),
            "classes": rank[table["class"].to_numpy()].astype(smallest),
            "places": np.stack([table[n].to_numpy() for n in ("longitude", "latitude")], axis=1),
            "ids": np.frombuffer(b"".join(table["id"].to_pylist()), np.uint8).reshape(-1, 16),
        }
        return columns | _lines(table["outline"]), ranked

    def _count(self, names: pa.ChunkedArray) -> NDArray[np.int32]:
        """Count the classes of features; returns (n,) the number of each feature's class."""
        encoded = pa.chunked_array([*names.chunks], pa.string()).combine_chunks()
        encoded = encoded.dictionary_encode()
        found = encoded.dictionary.to_pylist()
        for name in found:
            self._numbers.setdefault(name, len(self._numbers))
        for each in pc.value_counts(encoded).to_pylist():
            self.classes[each["values"]] += each["counts"]
        numbers = np.array([self._numbers[name] for name in found], np.int32)
        return np.asarray(numbers[encoded.indices.to_numpy()])

    def _best(self) -> pa.Table:
        """The features that are kept, best first; outlines as far as there is room for them."""
        table = pa.concat_tables(self._kept)
        scores = table["score"].to_numpy()
        order = np.argsort(-scores, kind="stable")[: self._limit]
        if len(order) == self._limit:
            self._least = float(scores[order[-1]])
        table = table.take(order).combine_chunks()
        sizes = pc.fill_null(pc.binary_length(table["outline"]), 0).to_numpy()
        room = np.cumsum(sizes, dtype=np.int64) <= 16 * _MAX_VERTICES
        outline = pc.if_else(pa.array(room), table["outline"], pa.scalar(None, pa.binary()))
        return table.set_column(
            _SCHEMA.get_field_index("outline"), _SCHEMA.field("outline"), outline
        )


def _outlines(geometry: NDArray[np.object_], corners: NDArray[np.float64]) -> NDArray[np.object_]:
    """(n,) WKB of the outlines of geometries with as few vertices as show them; None of boxes.

    A point has none either: if it has a box, that is what can be drawn of it.
    """
    outlines: NDArray[np.object_] = np.full(len(geometry), None, object)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    plain = (shapely.get_num_coordinates(geometry) == 5) & np.isclose(shapely.area(geometry), areas)
    rows = np.flatnonzero(~plain & (shapely.get_dimensions(geometry) > 0))
    tolerance = _TOLERANCE
    shapes = shapely.force_2d(geometry[rows])
    while len(rows):
        simple = shapely.simplify(shapes, tolerance, preserve_topology=False)
        gone = shapely.is_empty(simple)
        few = (shapely.get_num_coordinates(simple) <= _MAX_OUTLINE) & ~gone
        outlines[rows[few]] = shapely.to_wkb(simple[few], byte_order=1)
        # one that is gone is smaller than the line that would be drawn: its box is
        again = ~few & ~gone
        rows, shapes, tolerance = rows[again], shapes[again], 2 * tolerance
    return outlines


def _lines(outlines: pa.ChunkedArray) -> Columns:
    """The rings and lines of outlines as columns.

    `vertices` (n, 2) are those of all lines, of which each starts at `starts`, and belongs to the
    feature in `owners`.
    """
    shapes = shapely.from_wkb(outlines.to_numpy(zero_copy_only=False))
    parts, owners = shapely.get_parts(shapes, return_index=True)
    rings, places = [], []
    polygons = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    for kind, convert in ((polygons, shapely.get_rings), (~polygons, shapely.get_parts)):
        found, index = convert(parts[kind], return_index=True)
        rings.append(found)
        places.append(owners[kind][index])
    lines, owner = np.concatenate(rings), np.concatenate(places)
    order = np.argsort(owner, kind="stable")
    lines, owner = lines[order], owner[order]
    lengths = shapely.get_num_coordinates(lines)
    return {
        "vertices": shapely.get_coordinates(lines).astype(np.float32).reshape(-1, 2),
        "starts": np.append(0, np.cumsum(lengths)).astype(np.uint32),
        "owners": owner.astype(np.uint32),
    }
