"""Regions in processes of their own hold their job's limit together, and tell what they used."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from tasks.cost.limit import Spent
from tasks.cost.store import stored_usage
from tasks.cost.usage import Usage
from tasks.job import work_region
from tasks.job.asking import Asking
from tasks.job.kept import kept_of
from tasks.planning.plan import make_plan
from tasks.request import Request
from tasks.results import coverage
from tasks.settings import settings
from tests.job_scene import paint, request

MOST = 11


def work(message: str, number: int) -> None:
    """Work one region, in a process of its own."""
    asked = Request.parse(message)
    plan = make_plan(asked, asked.image_urls[0])
    work_region(plan, plan.regions(250)[number], kept_of(plan), Asking())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    monkeypatch.setenv("SWATH_PRICES", json.dumps({"call": 0.25}))
    settings.cache_clear()
    return tmp_path


@pytest.mark.parametrize("limit", [{"maxTiles": MOST}, {"maxCost": MOST * 0.25}])
def test_processes_ask_for_no_tile_beyond_the_limit(folder: Path, limit: dict[str, float]) -> None:
    asked = request(paint(folder / "scene.tif", blank=False), folder / "out", **limit)
    plan = make_plan(asked, asked.image_urls[0])
    regions = plan.regions(250)
    message = asked.model_dump_json(by_alias=True, exclude_unset=True)
    spawn = get_context("spawn")
    processes = [spawn.Process(target=work, args=(message, each.index)) for each in regions]
    assert len(processes) > 2
    for each in processes:
        each.start()
    for each in processes:
        each.join()
    assert {each.exitcode for each in processes} == {0}
    kept = kept_of(plan)
    store = kept.regions(asked)
    ledgers = [store.ledger(each) for each in store.latest(regions).values()]
    ledger = coverage.concatenate(ledgers)
    assert coverage.calls(ledger) == (MOST, 0)
    (field,) = limit
    reasons = coverage.reasons(ledger)
    assert sum(tiles for _, tiles in reasons) == len(plan.grid) - MOST
    assert all(reason.startswith(field) for reason, _ in reasons)
    used = sum(stored_usage(kept.used, asked.job_id).values(), Usage())
    assert used.calls == MOST
    assert used.cpu_seconds > 0.5  # of several processes, each with its start
    spent = Spent.model_validate_json(
        (folder / "work" / "jobs" / asked.job_id / "spent" / "spent.json").read_bytes()
    )
    assert spent.tiles == MOST
    assert spent.cost == pytest.approx(MOST * 0.25)
