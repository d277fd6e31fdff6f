"""GeoParquet in the order of the Hilbert curve, with typed columns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata
from tasks.publish.feature_batches import FeatureBatch
from tasks.publish.geometries import Geometries
from tasks.publish.geometry_wkb import wkb
from tasks.publish.geoparquet import geoparquet_file
from tasks.publish.hilbert import ORDER, hilbert_index
from tasks.publish.image_results import ImageResults
from tasks.publish.sorted_rows import KEY, SortedRows
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.examples import examples
from tests.provenance import provenance

SIDE = 20_000  # pixels of the image
UTM = AffineGeoreference(Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6), "EPSG:32633", (SIDE, SIDE))
ANYTHING = FeatureMetadata(provenance())


def detections(x: Any, y: Any, **columns: Any) -> pa.Table:
    """Boxes of 20 × 10 pixels, in the order of their rows."""
    count = len(x)
    boxes = {"x_min": x, "y_min": y, "x_max": x + 20, "y_max": y + 10}
    found = {
        "tile": np.arange(count),
        "ordinal": pa.array(np.zeros(count), pa.int32()),
        **boxes,
        "score": np.full(count, 0.5),
        "class_name": ["ship"] * count,
        "geometry": pa.nulls(count, pa.binary()),
        "properties": ["{}"] * count,
    }
    return pa.table(found | columns, schema=SCHEMA)


def scattered(count: int, **columns: Any) -> pa.Table:
    return detections(*np.random.default_rng(7).uniform(0, SIDE - 20, (2, count)), **columns)


def results(
    table: pa.Table, georeference: Georeference | None = UTM, **metadata: Any
) -> ImageResults:
    grid = Grid(SIDE, SIDE, SIDE, 0)
    records = [TileRecord(grid.tile(0, 0), TileState.INFERRED)]
    ledger = measure(coverage.ledger(records), Cells.of(grid, None))
    return ImageResults(lambda: [table], replace(ANYTHING, **metadata), ledger, georeference)


def written(path: Path, found: ImageResults, batches: Iterator[FeatureBatch] | None = None) -> Path:
    with geoparquet_file(path, found) as write:
        for batch in batches or found.batches():
            write(batch)
    assert list(path.parent.iterdir()) == [path]  # nothing temporary is left
    return path


class CountingFile(io.FileIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        body = super().read(size)
        self.count += len(body)
        return body


def test_the_curve_passes_every_cell_once_and_never_jumps() -> None:
    row, column = (each.ravel().astype(np.uint32) for each in np.indices((64, 64)))
    index = hilbert_index(column, row)
    assert sorted(index) == list(range(64 * 64))
    order = np.argsort(index)
    steps = np.abs(np.diff(column[order].astype(int))) + np.abs(np.diff(row[order].astype(int)))
    assert set(steps) == {1}
    last = np.array([(1 << ORDER) - 1], np.uint32)
    assert hilbert_index(last, last * 0).tolist() == [4**ORDER - 1]


@examples(0.3)
@given(st.data())
def test_rows_come_back_sorted_however_many_fit_into_memory(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=300))
    table = pa.table({KEY.name: pa.array(keys, pa.uint64()), "text": [str(key) for key in keys]})
    cuts = sorted(data.draw(st.lists(st.integers(0, len(keys)), max_size=5)))
    with TemporaryDirectory() as folder:
        rows = SortedRows(Path(folder) / "x", data.draw(st.sampled_from([1, 300, 2000, 1 << 20])))
        for start, end in zip([0, *cuts], [*cuts, len(keys)], strict=True):
            rows.add(table.slice(start, end - start))
        found = [row for part in rows.read() for row in part.to_pylist()]
    assert found == [{KEY.name: key, "text": str(key)} for key in sorted(keys)]


def test_sorting_keeps_no_more_than_a_few_runs_in_memory(tmp_path: Path) -> None:
    random, run = np.random.default_rng(5), 1 << 19
    before, most, found = pa.total_allocated_bytes(), 0, []
    rows = SortedRows(tmp_path / "x", run)
    for _ in range(60):
        keys = random.integers(0, 1 << 63, 1000, np.uint64)
        rows.add(pa.table({KEY.name: keys, "text": [f"{key:0200}" for key in keys.tolist()]}))
        most = max(most, pa.total_allocated_bytes() - before)
    for part in rows.read():
        most = max(most, pa.total_allocated_bytes() - before)
        found.append(part[KEY.name].to_numpy())
    assert (np.diff(np.concatenate(found).astype(np.int64)) >= 0).all()
    assert sum(map(len, found)) == 60_000
    assert (tmp_path / "x").stat().st_size > 24 * run
    assert most < 5 * run


def test_features_of_a_cell_are_in_the_order_of_tile_and_ordinal(tmp_path: Path) -> None:
    x, y = np.repeat([9000.0, 100.0, 18_000.0], 40), np.repeat([9000.0, 100.0, 200.0], 40)
    table = detections(x, y, class_name=[str(row) for row in range(120)])
    stored = pq.read_table(written(tmp_path / "x.parquet", results(table)))["class"].to_pylist()
    assert [int(name) for name in stored] == [*range(40, 80), *range(40), *range(80, 120)]


def test_a_read_of_a_hundredth_of_the_image_reads_three_hundredths_of_the_file(
    tmp_path: Path,
) -> None:
    """With as many bytes as a million features have, as vectors: those are made in no time."""
    random, size = np.random.default_rng(3), 2048
    found = results(scattered(20_000), UTM, embedding_size=size)
    vectors = (
        replace(batch, embeddings=random.random((len(batch.features), size), np.float32))
        for batch in results(scattered(20_000)).batches()
    )
    path = written(tmp_path / "x.parquet", found, vectors)
    whole, footer = path.stat().st_size, pq.read_metadata(path).serialized_size
    centers = pq.read_table(path, columns=["center_longitude", "center_latitude"])
    x, y = (column.to_numpy() for column in centers.columns)
    west, south, width, height = x.min(), y.min(), np.ptp(x), np.ptp(y)
    shares = []
    for left, lower in random.uniform(0, 0.9, (8, 2)):
        corner = west + left * width, south + lower * height
        bbox = *corner, corner[0] + 0.1 * width, corner[1] + 0.1 * height
        with CountingFile(path) as file:
            read = pq.read_table(file, filters=meets(bbox))
            shares.append(file.count / whole)
        assert 150 < len(read) < 250
    assert np.mean(shares) < 0.03
    with CountingFile(path) as file:
        assert len(geopandas.read_parquet(file, bbox=bbox)) == len(read)
        assert file.count / whole < shares[-1] + 2 * footer / whole  # it reads the footer twice


def meets(bbox: tuple[float, float, float, float]) -> Any:
    west, south, east, north = bbox
    side = partial(pc.field, "bbox")
    within_x = (side("xmin") <= east) & (side("xmax") >= west)
    return within_x & (side("ymin") <= north) & (side("ymax") >= south)


def test_row_groups_end_by_bytes_and_not_by_batches(tmp_path: Path) -> None:
    table = scattered(6000, properties=[json.dumps({"text": "x" * (i % 900)}) for i in range(6000)])
    file = pq.ParquetFile(written(tmp_path / "x.parquet", results(table)))
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    assert len(groups) > 5
    assert len({group.num_rows for group in groups}) > 1
    sizes = [group.total_byte_size for group in groups[:-1]]
    assert max(sizes) < 3 * min(sizes)


def test_one_feature_may_be_larger_than_a_row_group(tmp_path: Path) -> None:
    text = json.dumps({"text": "x" * 2_000_000})
    for place in (0, 1500, 2999):
        texts = ["{}"] * 3000
        texts[place] = text
        file = written(tmp_path / "x.parquet", results(scattered(3000, properties=texts)))
        assert max(map(len, pq.read_table(file)["properties"].to_pylist())) == len(text) - 1
        file.unlink()


def test_areas_are_those_on_the_ellipsoid(tmp_path: Path) -> None:
    ring = shapely.Point(5000, 5000).buffer(30) - shapely.Point(5000, 5000).buffer(10)
    line = shapely.LineString([(0, 0), (10, 10)])
    outlines = [shapely.box(0, 0, 2000, 9000), ring, shapely.box(9, 9, 10, 10), line]
    table = detections(np.zeros(4), np.zeros(4), geometry=shapely.to_wkb(outlines))
    frame = geopandas.read_parquet(written(tmp_path / "x.parquet", results(table)))
    geod = Geod(ellps="WGS84")
    areas = [abs(geod.geometry_area_perimeter(outline)[0]) for outline in frame.geometry]
    assert frame["area_square_metres"].tolist() == pytest.approx(areas, rel=1e-4, abs=1e-6)
    assert sorted(frame["area_square_metres"]) == pytest.approx(
        [0, 0.25, ring.area / 4, 4_500_000], rel=2e-3
    )


def test_the_area_around_a_pole_and_across_the_antimeridian_is_that_of_anywhere_else(
    tmp_path: Path,
) -> None:
    box = shapely.to_wkb([shapely.box(9000, 9000, 11_000, 11_000)])
    table = detections(np.array([9000.0]), np.array([9000.0]), geometry=box)
    middle = Affine(1, 0, -SIDE / 2, 0, -1, SIDE / 2)
    areas = {}
    for name, place in {
        "equator": "+proj=laea +lat_0=0 +lon_0=0",
        "antimeridian": "+proj=laea +lat_0=0 +lon_0=180",
        "pole": "+proj=laea +lat_0=90",
    }.items():
        georeference = AffineGeoreference(middle, place, (SIDE, SIDE))
        path = written(tmp_path / "x.parquet", results(table, georeference))
        (areas[name],) = pq.read_table(path)["area_square_metres"].to_pylist()
        path.unlink()
    assert areas["equator"] == pytest.approx(4e6, rel=1e-6)
    assert areas["antimeridian"] == pytest.approx(4e6, rel=1e-6)
    assert areas["pole"] == pytest.approx(4e6, rel=1e-3)  # edges straight in degrees


def test_measures_of_oriented_boxes_are_columns(tmp_path: Path) -> None:
    outline = shapely.Polygon([(0, 0), (40, 0), (40, 10), (0, 10)])
    own = {"lengthPixels": 1, "note": "x"}  # measured anew
    table = detections(
        np.zeros(2),
        np.zeros(2),
        geometry=pa.array([shapely.to_wkb(outline), None], pa.binary()),
        properties=[json.dumps(own), "{}"],
    )
    file = written(tmp_path / "x.parquet", results(table, oriented=True))
    box, other = sorted(pq.read_table(file).to_pylist(), key=lambda row: row["properties"] == "{}")
    assert box["angle"] == 90
    assert (box["length_pixels"], box["width_pixels"]) == (40, 10)
    assert box["length_metres"] == pytest.approx(20, rel=1e-3)
    assert box["width_metres"] == pytest.approx(5, rel=1e-3)
    assert box["length_metres"] == json.loads(box["properties"])["lengthMetres"]
    measures = ["angle", "length_pixels", "width_pixels", "length_metres", "width_metres"]
    assert [other[name] for name in measures] == [None] * 5
    assert not set(measures) & set(SCHEMA.names)
    file.unlink()
    plain = pq.read_schema(written(tmp_path / "x.parquet", results(table)))
    assert not set(measures) & set(plain.names)


def test_the_time_of_acquisition_is_a_timestamp(tmp_path: Path) -> None:
    source = [{"sourceDT": "2026-01-01T12:30:00.250Z"}]
    taken = pq.read_table(written(tmp_path / "a", results(scattered(3), source_metadata=source)))
    assert {time.isoformat() for time in taken["acquired"].to_pylist()} == {
        "2026-01-01T12:30:00.250000+00:00"
    }
    (tmp_path / "a").unlink()
    unknown = pq.read_table(written(tmp_path / "b", results(scattered(3))))
    assert unknown["acquired"].null_count == 3
    assert unknown.schema.field("acquired") == taken.schema.field("acquired")


@pytest.mark.parametrize("classes", [10, 10_000])
def test_classes_are_stored_once_in_a_row_group(tmp_path: Path, classes: int) -> None:
    names = [f"class number {row % classes} of a long list" for row in range(10_000)]
    file = pq.ParquetFile(
        written(tmp_path / "x.parquet", results(scattered(10_000, class_name=names)))
    )
    assert sorted(file.read(["class"])["class"].to_pylist()) == sorted(names)
    group = file.metadata.row_group(0)
    column = group.column(file.schema_arrow.names.index("class") + 3)  # bbox has 4 of them
    assert column.path_in_schema == "class"
    assert "RLE_DICTIONARY" in column.encodings
    if classes == 10:
        assert column.total_compressed_size < 3 * group.num_rows


def test_wkb_is_that_of_shapely() -> None:
    random = np.random.default_rng(1)
    boxes = shapely.box(*random.uniform(0, 9, (4, 20)))
    ring = shapely.Point(0, 0).buffer(2) - shapely.Point(0, 0).buffer(1)
    for geometry in (boxes, np.array([*boxes, None, ring]), boxes[:0]):
        assert (
            wkb(Geometries(geometry)).to_pylist() == shapely.to_wkb(geometry, byte_order=1).tolist()
        )
