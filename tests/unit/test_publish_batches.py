"""What is published depends on the detections alone, not on how they are divided into tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import PublishError
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata, ImageResults, publish
from tasks.publish.image_results import ReadDetections
from tasks.request import FileOutput
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.examples import examples
from tests.provenance import provenance

METADATA = FeatureMetadata(provenance())
UTM = AffineGeoreference(Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6), "EPSG:32633", (20_000, 20_000))
ROWS = 5000


@cache
def detections(count: int) -> pa.Table:
    random = np.random.default_rng(7)
    (x, y), sides = random.uniform(0, 19_000, (2, count)), random.uniform(10, 60, (2, count))
    numbers, scores = np.arange(count), random.random(count)
    outlines = shapely.to_wkb(shapely.buffer(shapely.points(x, y), sides[0], quad_segs=1))
    columns = {
        "tile": numbers // 50,
        "ordinal": pa.array(numbers % 50, pa.int32()),
        "x_min": x,
        "y_min": y,
        "x_max": x + sides[0],
        "y_max": y + sides[1],
        "score": scores,
        "class_name": ["ship"] * count,
        "geometry": pa.array(outlines, pa.binary(), mask=numbers % 3 > 0),
        "properties": [
            json.dumps({"featureClasses": [{"iri": "ship", "score": score}] * (1 + number % 3)})
            for number, score in enumerate(scores.tolist())
        ],
    }
    return pa.table(columns, schema=SCHEMA)


def cut(table: pa.Table, places: Sequence[int]) -> list[pa.Table]:
    ends = [*sorted(places), len(table)]
    return [table.slice(a, b - a) for a, b in zip([0, *ends], ends, strict=False)]


def published(
    folder: Path, read_detections: ReadDetections, georeference: AffineGeoreference = UTM
) -> dict[str, bytes]:
    grid = Grid(20_000, 20_000, 20_000, 0)
    record = TileRecord(grid.tile(0, 0), TileState.INFERRED)
    ledger = measure(coverage.ledger([record]), Cells.of(grid, None))
    results = ImageResults(read_detections, METADATA, ledger, georeference)
    output = FileOutput(type="File", path=str(folder))
    uris = publish([output], results, "x", roots=[folder]).uris
    return {name: Path(uri).read_bytes() for name, uri in uris.items()}


@cache
def whole(count: int) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        return published(Path(folder), lambda: [detections(count)])


@examples(0.1)
@given(st.lists(st.integers(0, ROWS), max_size=40))
def test_the_same_rows_give_the_same_bytes_however_they_are_split_into_tables(
    places: list[int],
) -> None:
    with TemporaryDirectory() as folder:
        files = published(Path(folder), lambda: cut(detections(ROWS), places))
    assert files == whole(ROWS)


def test_the_bbox_of_a_collection_is_written_last_and_contains_all_features() -> None:
    collection = json.loads(whole(ROWS)["geojson"])
    assert list(collection) == ["swath", "type", "features", "bbox"]
    boxes = np.array([feature["bbox"] for feature in collection["features"]])
    assert len(boxes) == ROWS
    assert collection["bbox"] == [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]


def test_one_feature_over_the_antimeridian_leaves_a_collection_without_a_bbox(
    tmp_path: Path,
) -> None:
    east = AffineGeoreference(Affine(1e-4, 0, 179, 0, -1e-4, 10), "EPSG:4326", (20_000, 20_000))
    table = detections(2 * ROWS)
    before = table.filter(pc.less(table["x_max"], 9900))
    across = table.filter(pc.and_(pc.less(table["x_min"], 9999), pc.greater(table["x_max"], 10001)))
    collections = [
        json.loads(published(tmp_path, partial(iter, tables), east)["geojson"])
        for tables in ([before], [across.slice(0, 1), before])
    ]
    assert [list(found) for found in collections] == [
        ["swath", "type", "features", "bbox"],
        ["swath", "type", "features"],
    ]


def test_tables_are_asked_for_in_turn_and_once_for_all_files(tmp_path: Path) -> None:
    asked: list[int] = []

    def read_detections() -> Iterator[pa.Table]:
        for number, table in enumerate(cut(detections(ROWS), [0, 3000, 3000])):
            asked.append(number)
            yield table

    assert published(tmp_path, read_detections) == whole(ROWS)
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("none", [[], [SCHEMA.empty_table()], [SCHEMA.empty_table()] * 2])
def test_bands_without_rows_are_valid_files(tmp_path: Path, none: Iterable[pa.Table]) -> None:
    files = published(tmp_path, lambda: none)
    collection = json.loads(files["geojson"])
    assert list(collection) == ["swath", "type", "features"]
    assert collection["features"] == []
    assert pq.read_metadata(tmp_path / "x.parquet").num_rows == 0


def test_nothing_is_published_if_a_table_cannot_be_read(tmp_path: Path) -> None:
    def read_detections() -> Iterator[pa.Table]:
        yield detections(ROWS)
        raise PublishError("Cannot read region 2.")

    with pytest.raises(PublishError, match="region 2"):
        published(tmp_path, read_detections)
    assert list(tmp_path.iterdir()) == []
