"""The page of a summary and the table of regions: Markdown for Prefect's UI."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.aws import clients
from tasks.cost.money import Cost
from tasks.cost.usage import Usage
from tasks.grid.tiles import Grid
from tasks.reporting.failures import FailedTile
from tasks.reporting.links import console_url
from tasks.reporting.page import duration, plain, summary_page
from tasks.reporting.raster_summary import RasterSummary
from tasks.reporting.region_table import RegionRow, region_table
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary

WHOLE: dict[str, Any] = {
    "job_id": "job_42",
    "image": "/data/harbour.tif",
    "status": JobStatus.SUCCESS,
    "features": 1234,
    "classes": {"ship": 1200, "http://x/a|b": 34},
    "seconds": 83.2,
    "calls": 7,
    "tiles": {"inferred": 7, "blank": 2, "outside": 0, "failed": 0},
    "shares": {"inferred": 0.75, "blank": 0.25, "outside": 0.0, "failed": 0.0},
    "rejected": 0,
    "reasons": [],
    "outputs": {"geojson": "/out/harbour.tif.geojson", "kinesis": "kinesis://features"},
}
PARTLY = WHOLE | {
    "status": JobStatus.PARTIAL,
    "tiles": {"inferred": 5, "blank": 2, "outside": 0, "failed": 78},
    "shares": {"inferred": 0.682, "blank": 0.3, "outside": 0.0, "failed": 0.018},
    "rejected": 3,
    "rejections": [("no geometry", 2)],
    "reasons": [(f"http://m/ answered {number}", 12 - number) for number in range(12)],
    "failed": [
        FailedTile(tile=n, x=512 * n, y=7, width=512, height=500, reason="http://m/ answered 0")
        for n in range(3)
    ],
}


def test_the_page_begins_with_the_picture_and_ends_with_the_start() -> None:
    used = Usage(calls=7, cpu_seconds=2.5, bytes_read=3_000_000, bytes_stored=1200)
    cost = Cost(currency="USD", calls=0.07, vcpu=0.07)
    summary = Summary(**WHOLE, usage=used, cost=cost)
    page = summary_page(summary, "data:image/jpeg;base64,AAAA", "first tile 0.81 s")
    lines = page.splitlines()
    assert lines[0] == "![harbour.tif with its results](data:image/jpeg;base64,AAAA)"
    assert lines[2] == r"# SUCCESS: harbour.tif, job\_42"
    assert lines[-1] == "Start-up: first tile 0.81 s"
    facts = [line for line in lines if line.startswith("| ") and "---" not in line][1:]
    assert facts == [
        "| status | **SUCCESS** |",
        "| area covered | 100 % |",
        r"| features | 1,234: ship 1,200, http://x/a\|b 34 |",
        "| duration | 1 min 23 s |",
        "| tiles | 9: 7 inferred, 2 blank; 0.1 a second over the whole run |",
        "| model calls | 7, 0 failed |",
        "| used by this run | 7 model calls, 2.5 vCPU-seconds, 3 MB read, 1.2 kB stored |",
        "| cost of this run | 0.14 USD: model calls 0.07 USD, vCPU 0.07 USD |",
        "| image | `/data/harbour.tif` |",
        "| geojson | `/out/harbour.tif.geojson` |",
        "| kinesis | `kinesis://features` |",
    ]
    assert "##" not in page


def test_without_a_picture_the_page_begins_with_the_status() -> None:
    assert summary_page(Summary(**WHOLE), None, "").startswith("# SUCCESS: ")


def test_failed_tiles_are_grouped_by_reason_with_their_places() -> None:
    page = summary_page(Summary(**PARTLY), None, "")
    assert page.startswith("# PARTIAL: ")
    assert "3 features broke the model's contract" in page
    assert "1.8 % failed in 78 tiles." in page
    assert "**12 tiles:** `http://m/ answered 0`" in page
    assert "| 2 | 1024 to 1535 | 7 to 506 |\n\nand 9 more." in page
    assert "longitude" not in page
    assert "answered 10" not in page
    assert "And 2 other reasons." in page


def test_failed_tiles_of_a_georeferenced_image_have_a_longitude_and_latitude() -> None:
    tile = FailedTile(
        tile=4, x=0, y=0, width=9, height=9, reason="r", longitude=13.5, latitude=45.25
    )
    page = summary_page(Summary(**PARTLY | {"reasons": [("r", 1)], "failed": [tile]}), None, "")
    assert "| 4 | 0 to 8 | 0 to 8 | 13.50000, 45.25000 |" in page
    assert "more." not in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59.6, "1 min 0 s"),
        (83, "1 min 23 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_a_duration_is_told_in_its_two_greatest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_text_is_shown_as_it_is() -> None:
    assert plain("a_b*c|d<e>`f`[g]") == r"a\_b\*c\|d\<e\>\`f\`\[g\]"


@pytest.mark.parametrize(
    ("endpoint", "region", "url"),
    [
        (None, "eu-central-1", "https://console.aws.amazon.com/s3/object/out?prefix=a%2Fb%20c.json"),
        (None, "us-gov-west-1", "https://console.amazonaws-us-gov.com/s3/object/out?prefix=a%2Fb%20c.json"),
        ("http://127.0.0.1:4566", "eu-central-1", None),
    ],
)  # fmt: skip
def test_an_object_in_s3_links_to_the_console_of_aws(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, region: str, url: str | None
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    clients.renew_credentials()
    assert console_url("s3://out/a/b c.json") == url
    assert console_url("/out/a.json") is None
    assert console_url("kinesis://out/a") is None


def test_the_regions_with_failed_tiles_come_first_and_no_column_is_empty() -> None:
    regions = Grid(1000, 3000, 100, 0).regions(1000)
    counts = [{"inferred": 200, "blank": 0, "outside": 0, "failed": 0} for _ in regions]
    counts[2] |= {"inferred": 190, "failed": 10}
    rows = [
        RegionRow(region, tiles, 7, f"../../runs/flow-run/{region.index}", "Completed", 20.0)
        for region, tiles in zip(regions, counts, strict=True)
    ]
    assert len(rows) == 3
    lines = region_table(rows).splitlines()
    assert lines[4] == (
        "| region | failed<br>(tiles) | inferred<br>(tiles) | rows<br>(px) | detections "
        "| duration<br>(s) | rate<br>(tiles/s) |"
    )
    assert lines[6] == "| [3](../../runs/flow-run/2) | 10 | 190 | 2000-2999 | 7 | 20.0 | 10.0 |"
    assert lines[7].startswith("| [1](../../runs/flow-run/0) |  | 200 |")


def test_a_region_without_a_run_has_a_row_and_a_great_many_are_cut_short() -> None:
    regions = Grid(100, 50_000, 100, 0).regions(100)
    tiles = {"inferred": 1, "blank": 0, "outside": 0, "failed": 0}
    table = region_table([RegionRow(region, tiles, 0) for region in regions])
    assert "| 1 | 1 | 0-99 |" in table
    assert table.endswith("\n\n300 more regions with 0 failed tiles.")


def test_a_raster_has_its_contents_and_the_pixels_without_an_answer() -> None:
    classes, nodata = {"a|b": 3000, "c": 500}, {"nodata": 500, "nodata_share": 0.125, "blank": 500}
    raster = RasterSummary(width=80, height=50, classes=classes, **nodata)
    page = summary_page(Summary(**PARTLY | {"features": 0, "raster": raster}), None, "")
    assert "| contents | 80 × 50 pixels: a\\|b 85.7 %, c 14.3 % |" in page
    assert "| without an answer | 500 pixels (12.5 %): 500 blank |" in page
    assert "| features |" not in page
