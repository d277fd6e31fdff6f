"""The division of an image into regions is the same for every run of the same question."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.grid.tiles import Region
from tasks.job.division import lasting_division
from tasks.job.kept import Kept, kept_of
from tasks.planning.plan import Plan, make_plan
from tasks.planning.throughput import Throughput
from tasks.settings import settings
from tests.job_scene import corner, paint, request

FAST, SLOW = Throughput(0.001), Throughput(1000.0)
FIELDS = {"imageProcessorTileSize": 64, "imageProcessorTileOverlap": 16}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        settings.cache_clear()
        yield paint(tmp_path / "scene.tif")
    settings.cache_clear()


def plan_of(scene: Path, **fields: object) -> tuple[Plan, Kept]:
    plan = make_plan(request(scene, scene.parent / "out", **FIELDS | fields), str(scene))
    return plan, kept_of(plan)


def divided(scene: Path, throughput: Throughput, **fields: object) -> list[Region]:
    return lasting_division(*plan_of(scene, **fields), None, lambda: throughput)


def test_a_later_estimate_does_not_change_the_regions(scene: Path) -> None:
    first = divided(scene, SLOW)
    assert len(first) > 1
    assert divided(scene, FAST) == first


def test_a_height_that_is_given_is_that_of_the_regions(scene: Path) -> None:
    divided(scene, SLOW)
    plan, kept = plan_of(scene)
    assert lasting_division(plan, kept, 200, lambda: SLOW) == plan.regions(200)


def test_another_region_of_interest_has_a_division_of_its_own(scene: Path) -> None:
    whole = divided(scene, SLOW)
    assert divided(scene, SLOW, regionOfInterest=corner(scene)) != whole
    assert divided(scene, FAST) == whole


def test_a_division_that_is_damaged_is_made_anew_and_lasts(scene: Path) -> None:
    divided(scene, SLOW)
    (damaged,) = scene.parent.glob("work/jobs/*/*/*/*/division.json")
    damaged.write_bytes(damaged.read_bytes()[:20])
    anew = divided(scene, Throughput(500.0))
    assert len(anew) > 1
    assert divided(scene, SLOW) == anew
