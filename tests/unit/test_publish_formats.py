"""What holds for a file of every format in `FORMATS`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from affine import Affine

from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata
from tasks.publish.formats import FILE_ENDINGS, FORMATS, STAC
from tasks.publish.image_results import ImageResults
from tasks.request import FeatureFormat
from tasks.results import coverage
from tasks.results.detections import SCHEMA
from tests.provenance import provenance

METADATA = FeatureMetadata(provenance())
UTM = AffineGeoreference(Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6), "EPSG:32633", (10_000, 10_000))


def detections(count: int) -> pa.Table:
    (x, y), numbers = np.random.default_rng(7).uniform(0, 9000, (2, count)), np.arange(count)
    columns = {
        "tile": numbers // 50,
        "ordinal": pa.array(numbers % 50, pa.int32()),
        "x_min": x,
        "y_min": y,
        "x_max": x + 20,
        "y_max": y + 30,
        "score": np.full(count, 0.5),
        "class_name": ["ship"] * count,
        "geometry": pa.nulls(count, pa.binary()),
        "properties": ["{}"] * count,
    }
    return pa.table(columns, schema=SCHEMA)


def results_with(
    georeference: Georeference | None, tables: Sequence[pa.Table] = ()
) -> ImageResults:
    ledger = coverage.ledger([])
    return ImageResults(lambda: tables, METADATA, ledger, georeference)


def written(name: str, path: Path, tables: list[pa.Table], georeference: Georeference) -> bytes:
    results = results_with(georeference, tables)
    with FORMATS[name].open_writer(path, results) as write:
        for batch in results.batches():
            write(batch)
    return path.read_bytes()


def test_no_two_kinds_of_files_have_one_ending() -> None:
    in_pixels = sum(each.in_pixels for each in FORMATS.values())
    assert len(set(FILE_ENDINGS.values())) == len(FILE_ENDINGS) == len(FORMATS) + in_pixels + 6


def test_an_output_can_name_every_format() -> None:
    assert [*FORMATS, STAC] == [each.value for each in FeatureFormat]


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_features_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    table = detections(5000)
    divided = [table.slice(0, 0), table.slice(0, 4999), table.slice(4999)]
    once = written(name, tmp_path / "a", [table], UTM)
    again = written(name, tmp_path / "b", divided, UTM)
    assert once == again
    assert once != written(name, tmp_path / "c", [table.slice(1)], UTM)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("georeferenced", [True, False])
def test_a_file_without_features_is_written(
    name: str, tmp_path: Path, *, georeferenced: bool
) -> None:
    with FORMATS[name].open_writer(tmp_path / "x", results_with(UTM if georeferenced else None)):
        pass
    assert (tmp_path / "x").is_file()
