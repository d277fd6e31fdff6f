"""The outcome of an image: its status, and the words for people."""

from typing import Any

import pytest

from tasks.coverage import TileState
from tasks.status import JobStatus
from tasks.summary import Summary, status_of

WHOLE: dict[str, Any] = {
    "job_id": "job-42",
    "image": "s3://images/2024/harbour.tif",
    "status": JobStatus.SUCCESS,
    "features": 12,
    "tiles": {"inferred": 7, "blank": 2, "outside": 0, "failed": 0},
    "rejected": 0,
    "reasons": [],
    "outputs": {"geojson": "s3://out/harbour.tif.geojson"},
}
PARTLY = WHOLE | {
    "status": JobStatus.PARTIAL,
    "tiles": {"inferred": 5, "blank": 2, "outside": 0, "failed": 12},
    "rejected": 3,
    "reasons": [(f"reason {number}", 12 - number) for number in range(12)],
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


def test_a_success_in_one_line() -> None:
    line = Summary(**WHOLE).message
    assert line == "12 features; tiles: 7 inferred, 2 blank, 0 outside, 0 failed"


def test_a_partial_result_says_why_in_the_same_line() -> None:
    line = Summary(**PARTLY).message
    assert "; 3 broken features left out" in line
    assert line.endswith("; tiles failed most often because: reason 0")
    assert "\n" not in line


def test_the_page_of_a_success() -> None:
    page = Summary(**WHOLE).markdown()
    assert page.startswith("# SUCCESS: harbour.tif · job-42\n")
    assert "**12 features** in `s3://images/2024/harbour.tif`" in page
    assert "| inferred | 7 |" in page
    assert "- geojson: [s3://out/harbour.tif.geojson](s3://out/harbour.tif.geojson)" in page
    assert "failed\n" not in page


def test_the_page_of_a_partial_result_names_the_ten_commonest_reasons() -> None:
    page = Summary(**PARTLY).markdown()
    assert page.startswith("# PARTIAL: ")
    assert "3 features broke the model's contract" in page
    assert page.index("- 12 × reason 0") < page.index("- 3 × reason 9")
    assert "reason 10" not in page


def test_it_travels_as_json() -> None:
    summary = Summary(**PARTLY)
    assert Summary.model_validate_json(summary.model_dump_json()) == summary
