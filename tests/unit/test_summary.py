"""The summary of an image's run: its status, and the text for users."""

from typing import Any

import pytest
from affine import Affine

from tasks.cost.usage import Usage
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.reporting.failures import FailedTile
from tasks.reporting.raster_summary import RasterSummary, ValueRange
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary, status_of, summarise
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure

WHOLE: dict[str, Any] = {
    "job_id": "job-42",
    "image": "s3://images/2024/harbour.tif",
    "status": JobStatus.SUCCESS,
    "features": 12,
    "tiles": {"inferred": 7, "blank": 2, "outside": 0, "failed": 0},
    "shares": {"inferred": 0.75, "blank": 0.25, "outside": 0.0, "failed": 0.0},
    "rejected": 0,
    "reasons": [],
    "outputs": {"geojson": "s3://out/harbour.tif.geojson"},
}
PARTLY = WHOLE | {
    "status": JobStatus.PARTIAL,
    "tiles": {"inferred": 5, "blank": 2, "outside": 0, "failed": 12},
    "shares": {"inferred": 0.682, "blank": 0.3, "outside": 0.0, "failed": 0.018},
    "rejected": 3,
    "reasons": [(f"reason {number}", 12 - number) for number in range(12)],
    "failed": [
        FailedTile(tile=n, x=512 * n, y=7, width=512, height=500, reason="reason 0")
        for n in range(10)
    ],
}


@pytest.mark.parametrize(
    ("inferred", "blank", "outside", "failed", "status"),
    [
        (9, 0, 0, 0, "SUCCESS"),
        (0, 9, 0, 0, "SUCCESS"),
        (0, 0, 9, 0, "SUCCESS"),
        (8, 0, 0, 1, "PARTIAL"),
        (1, 2, 3, 9, "PARTIAL"),
        (0, 5, 3, 1, "FAILED"),
        (0, 0, 0, 9, "FAILED"),
    ],
)
def test_the_status_follows_from_the_tiles(
    inferred: int, blank: int, outside: int, failed: int, status: str
) -> None:
    names = (TileState.INFERRED, TileState.BLANK, TileState.OUTSIDE, TileState.FAILED)
    tiles = dict(zip(map(str, names), (inferred, blank, outside, failed), strict=True))
    assert status_of(tiles) == status


def test_one_feature_is_no_plural() -> None:
    assert Summary(**WHOLE | {"features": 1}).message.startswith("1 feature; 100 % of")


def test_a_success_in_one_line() -> None:
    line = Summary(**WHOLE).message
    assert line == (
        "12 features; 100 % of the area covered; tiles: 7 inferred, 2 blank, 0 outside, 0 failed"
    )


def test_a_partial_result_says_how_much_failed_and_why_in_the_same_line() -> None:
    assert Summary(**PARTLY).message == (
        "12 features; 98.2 % of the area covered; 1.8 % failed in 12 tiles, most often because: "
        "reason 0; 3 invalid features left out; tiles: 5 inferred, 2 blank, 0 outside, 12 failed"
    )


def test_features_left_out_are_reported_with_their_most_frequent_reason() -> None:
    line = Summary(**WHOLE | {"rejected": 2, "rejections": [("no geometry", 1)]}).message
    assert "; 2 invalid features left out, most often because: no geometry; tiles: " in line


@pytest.mark.parametrize(
    ("failed", "covered", "told"),
    [
        (1e-7, "more than 99.9 % of the area covered", "less than 0.1 % failed in 1 tile,"),
        (0.0, "; 100 % of the area covered", "; 0 % failed in 1 tile,"),
        (0.5, "50.0 % of the area covered", "50.0 % failed in 1 tile,"),
        (1.0, "; 0 % of the area covered", "; 100 % failed in 1 tile,"),
        (1 - 1e-7, "less than 0.1 % of the area covered", "more than 99.9 % failed in 1 tile,"),
    ],
)
def test_an_incomplete_result_is_not_called_complete(
    failed: float, covered: str, told: str
) -> None:
    line = Summary(
        **WHOLE
        | {
            "tiles": {"inferred": 7, "blank": 2, "outside": 0, "failed": 1},
            "shares": {"inferred": 1 - failed, "blank": 0.0, "outside": 0.0, "failed": failed},
            "reasons": [("HTTP 500", 1)],
        }
    ).message
    assert covered in line
    assert told in line


def test_the_outcome_is_what_the_ledger_says() -> None:
    grid = Grid(1200, 100, 100, 0)
    found = [
        TileRecord(tile, TileState.FAILED, "HTTP 500", attempts=2)
        if tile.index > 0
        else TileRecord(tile, TileState.INFERRED, "no geometry", attempts=1, rejected=4)
        for region in grid.regions(5000)
        for tile in grid.tiles(region)
    ]
    table = measure(coverage.ledger(found), Cells.of(grid, None))
    degrees = AffineGeoreference(Affine(0.01, 0, 13, 0, -0.01, 45), "EPSG:4326", (1200, 100))
    told = summarise(
        table,
        job_id="j",
        image="a.tif",
        status=JobStatus.PARTIAL,
        features=2,
        classes={"ship": 2},
        outputs={"a": "b"},
        usage=Usage(seconds=8.0),
        georeference=degrees,
    )
    assert told.tiles == {"inferred": 1, "blank": 0, "outside": 0, "failed": 11}
    assert told.shares["failed"] == pytest.approx(11 / 12)
    assert told.covered == pytest.approx(1 / 12)
    assert (told.rejected, told.rejections) == (4, [("no geometry", 1)])
    assert told.reasons == [("HTTP 500", 11)]
    assert [tile.tile for tile in told.failed] == [1, 2, 3]
    first = told.failed[0]
    assert (first.x, first.y, first.width, first.height) == (100, 0, 100, 100)
    assert (first.longitude, first.latitude) == pytest.approx((14.5, 44.5))
    assert (told.calls, told.failed_calls) == (23, 22)
    assert (told.classes, told.seconds) == ({"ship": 2}, 8.0)
    assert told.outputs == {"a": "b"}


def test_it_travels_as_json() -> None:
    summary = Summary(**PARTLY)
    assert Summary.model_validate_json(summary.model_dump_json()) == summary


def test_a_raster_is_told_by_the_share_of_each_class() -> None:
    raster = RasterSummary(
        width=1000,
        height=500,
        classes={"clear": 300_000, "cloud": 100_000},
        nodata=100_000,
        nodata_share=0.2,
        missing=70_000,
        outside=20_000,
        blank=10_000,
    )
    message = Summary(**PARTLY | {"features": 0, "raster": raster}).message
    assert message.startswith("raster of 1000 × 500 pixels: clear 75.0 %, cloud 25.0 %; 98.2 % of")
    assert (
        "100,000 pixels without an answer (20.0 %): 70,000 failed, 20,000 outside the region of "
        "interest, 10,000 blank" in message
    )
    with_polygons = Summary(**WHOLE | {"raster": raster}).message
    assert "; 12 features; 100 % of" in with_polygons


def test_a_raster_of_values_is_told_by_its_range() -> None:
    values = (ValueRange(band="height", low=-0.5, mean=7.25, high=31.0),)
    raster = RasterSummary(width=8, height=8, values=values, unit="m")
    assert raster.text == "raster of 8 × 8 pixels: height -0.5 to 31 m, mean 7.25"
    assert RasterSummary(width=8, height=8).text == "raster of 8 × 8 pixels: none has a value"


def test_a_raster_that_is_not_there_says_so() -> None:
    raster = RasterSummary(nodata=64, nodata_share=1.0, missing=64)
    assert Summary(**WHOLE | {"features": 0, "raster": raster}).message == (
        "no raster; 100 % of the area covered; 64 pixels without an answer (100 %): 64 failed; "
        "tiles: 7 inferred, 2 blank, 0 outside, 0 failed"
    )
