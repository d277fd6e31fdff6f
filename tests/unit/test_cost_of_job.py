"""What a job used and cost is told with its results; its limit refuses it, or stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import RequestError
from tasks.job import check_plan, work_image
from tasks.job.kept import kept_of
from tasks.planning.estimate import estimate
from tasks.prices import Prices
from tasks.reporting.page import summary_page
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.results import coverage
from tasks.settings import settings
from tests.job_scene import ledger, paint, request

PRICES = Prices.model_validate({"currency": "EUR", "models": {"bright-targets": {"call": 0.5}}})


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in, in a process with prices."""
    with settings.override(local_roots=[tmp_path], work_uri=str(tmp_path / "work"), prices=PRICES):
        yield tmp_path


def two(folder: Path, **fields: Any) -> Request:
    """A job of two scenes, of which each has 20 tiles for the model."""
    paths = [folder / "a.tif", folder / "b.tif"]
    for path in paths:
        if not path.exists():  # a new version of an image is another question
            paint(path, blank=False)
    return request(paths[0], folder / "out", imageUrls=list(map(str, paths)), **fields)


def worked(asked: Request) -> list[Summary]:
    return [work_image(asked, url, region_rows=300) for url in asked.image_urls]


def test_a_run_tells_what_it_used_and_cost(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    formats = ["geojson", "parquet", "stac", "html"]
    out = [{"type": "File", "path": str(allowed / "out"), "formats": formats}]
    asked = request(scene, allowed / "out", outputs=out)
    summary = work_image(asked, str(scene), region_rows=300)
    tiles = ledger(allowed / "out")
    used, cost = summary.usage, summary.cost
    assert used.calls == tiles["attempts"].sum() == summary.calls > 10
    assert used.failed_calls == 0
    assert used.cpu_seconds > 0
    assert scene.stat().st_size * 0.9 < used.bytes_read < scene.stat().st_size * 2
    published = sum(
        Path(uri).stat().st_size for uri in summary.outputs.values() if "swath.json" not in uri
    )
    kept = kept_of(check_plan(asked, str(scene))).answers
    answers = sum(path.stat().st_size for path in Path(kept).iterdir())
    assert used.bytes_stored == published + answers
    assert cost is not None
    assert cost.total == cost.calls == used.calls * 0.5
    assert f"cost: {cost.text}" in summary.message
    assert f"| cost of this run | {cost.text}: model calls {cost.text} |" in summary_page(
        summary, None, ""
    )
    manifest = json.loads((allowed / "out" / "scene.tif.swath.json").read_text())
    assert (manifest["usage"]["calls"], manifest["cost"]["total"]) == (used.calls, cost.total)
    item = json.loads(Path(summary.outputs["stac"]).read_text())["properties"]
    assert item["swath:cost"] == manifest["cost"]
    assert "Cost of the run" in Path(summary.outputs["html"]).read_text()


def test_kept_answers_cost_nothing_again(allowed: Path) -> None:
    asked = request(paint(allowed / "scene.tif"), allowed / "out")
    first = work_image(asked, asked.image_urls[0])
    again = work_image(asked, asked.image_urls[0])
    assert again.calls == first.calls > 0
    assert (again.usage.calls, again.usage.bytes_read) == (0, 0)
    assert again.cost is not None
    assert again.cost.total == 0


def test_a_job_is_estimated_before_as_it_costs_after(allowed: Path) -> None:
    asked = request(paint(allowed / "scene.tif", blank=False), allowed / "out")
    found = estimate(check_plan(asked, asked.image_urls[0]))
    summary = work_image(asked, asked.image_urls[0])
    assert found.usage.calls == summary.usage.calls == 20
    assert found.cost is not None
    assert summary.cost is not None
    assert found.cost.total == summary.cost.total == 10


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"maxTiles": 19}, r"maxTiles: 19 is below the 20 tiles that .* is estimated .* give a"),
        ({"maxCost": 9.9}, r"maxCost: 9\.90 EUR is below the 10\.00 EUR that .*model calls 10"),
    ],
)
def test_a_job_beyond_its_limit_is_refused_before_a_tile_costs_money(
    allowed: Path, fields: dict[str, Any], reason: str
) -> None:
    asked = two(allowed, **fields)
    with pytest.raises(RequestError, match=reason):
        work_image(asked, asked.image_urls[0])
    assert not list(allowed.glob("work/**/*.arrow"))


def test_a_limit_in_money_needs_a_price(allowed: Path) -> None:
    asked = two(allowed, maxCost=50)
    with settings.override(prices=None), pytest.raises(RequestError, match="set SWATH_PRICES"):
        work_image(asked, asked.image_urls[0])
    other = Prices.model_validate({"models": {"another": {"call": 1}}})
    with (
        settings.override(prices=other),
        pytest.raises(RequestError, match="no price for the model bright-targets"),
    ):
        work_image(asked, asked.image_urls[0])


@pytest.mark.parametrize(
    ("fields", "greater", "field"),
    [({"maxTiles": 27}, {"maxTiles": 40}, "maxTiles"), ({"maxCost": 13.5}, {}, "maxCost")],
)
def test_a_job_that_reaches_its_limit_stops_and_goes_on_with_a_greater_one(
    allowed: Path, fields: dict[str, Any], greater: dict[str, Any], field: str
) -> None:
    asked = two(allowed, **fields)
    first, second = worked(asked)
    assert (first.status, first.usage.calls) == (JobStatus.SUCCESS, 20)
    assert (second.status, second.usage.calls) == (JobStatus.PARTIAL, 7)
    assert second.tiles == {"inferred": 7, "blank": 0, "outside": 0, "failed": 13}
    ((reason, tiles),) = second.reasons
    assert reason.startswith(field)
    assert tiles == 13
    assert second.covered < 1
    again = two(allowed, **greater)
    url = again.image_urls[1]
    assert again.identity(url) != asked.identity(url)
    kept = [kept_of(check_plan(each, url)).folder for each in (asked, again)]
    assert kept[0] == kept[1]
    rest = work_image(again, url, region_rows=300)
    assert (rest.status, rest.usage.calls, rest.calls) == (JobStatus.SUCCESS, 13, 20)


def test_the_same_limit_again_asks_for_nothing_more(allowed: Path) -> None:
    asked = two(allowed, maxTiles=27)
    worked(asked)
    first, second = worked(asked)
    assert (first.usage.calls, second.usage.calls) == (0, 0)
    assert (first.status, second.status) == (JobStatus.SUCCESS, JobStatus.PARTIAL)


def test_answers_that_are_kept_are_not_estimated_to_cost_again(allowed: Path) -> None:
    asked = request(paint(allowed / "scene.tif", blank=False), allowed / "out")
    work_image(asked, asked.image_urls[0])
    step = {"algorithm": {"algorithmType": "NMS", "iouThreshold": 0.3}}
    limited = request(allowed / "scene.tif", allowed / "out", maxTiles=1, postProcessing=[step])
    summary = work_image(limited, limited.image_urls[0])
    assert (summary.status, summary.usage.calls) == (JobStatus.SUCCESS, 0)
    assert coverage.TileState.FAILED not in {name for name, count in summary.tiles.items() if count}
