"""Prices, what a usage costs, and the limit that several processes hold together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.cost.limit import Limit, Spending, Spent
from tasks.cost.meter import Meter, take_cpu
from tasks.cost.money import cost_of
from tasks.cost.store import forget_usage, store_usage, stored_usage
from tasks.cost.usage import Usage
from tasks.errors import LimitReachedError
from tasks.prices import Prices
from tasks.settings import Settings, settings

PRICES = {
    "currency": "EUR",
    "call": 0.001,
    "vcpuHour": 0.05,
    "gbRead": 0.01,
    "gbStored": 0.02,
    "models": {"ships": {"call": 0.5}, "roads": {"instanceHour": 2.0, "instances": 3}},
}


@pytest.fixture
def priced() -> Iterator[None]:
    with settings.override(prices=Prices.model_validate(PRICES)):
        yield


def test_a_usage_costs_what_its_parts_cost() -> None:
    used = Usage(
        calls=10, failed_calls=4, cpu_seconds=7200, bytes_read=3 * 10**9, bytes_stored=10**9
    )
    prices = Prices.model_validate(PRICES)
    cost = cost_of(used, ["http://models/ships", "ships"], prices)
    assert cost is not None
    assert (cost.calls, cost.vcpu, cost.read, cost.stored) == (5.0, 0.1, 0.03, 0.02)
    assert cost.total == pytest.approx(5.15)
    assert cost.text == "5.15 EUR"
    other = cost_of(used, ["others"], prices)
    assert other is not None
    assert other.calls == pytest.approx(0.01)


def test_instances_cost_for_the_hours_of_a_job_that_called_the_model() -> None:
    prices = Prices.model_validate(PRICES)
    used = Usage(calls=1, seconds=1800)
    cost = cost_of(used, ["roads"], prices)
    assert cost is not None
    assert cost.instances == 3.0
    kept = cost_of(used.model_copy(update={"calls": 0}), ["roads"], prices)
    assert kept is not None
    assert kept.total == 0


def test_without_prices_nothing_has_a_cost() -> None:
    assert cost_of(Usage(calls=3), ["ships"]) is None


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"call": -1}, "prices.call"),
        ({"vcpuHour": "much"}, "prices.vcpuHour"),
        ({"models": {"ships": {"calls": 1}}}, "prices.models.ships.calls"),
        ({"models": {"ships": {"instances": 0}}}, "prices.models.ships.instances"),
    ],
)
def test_a_wrong_price_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], place: str
) -> None:
    monkeypatch.setenv("SWATH_PRICES", json.dumps(PRICES | change))
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert ".".join(map(str, refused.value.errors()[0]["loc"])) == place


def spending(folder: Path, limit: Limit, meter: Meter | None = None, **options: Any) -> Spending:
    model = options.pop("model", ("ships",))
    meter = meter or Meter()
    return Spending(limit, str(folder), meter, image="a.tif", model=model, **options)


def until_refused(take: Callable[[], None]) -> int:
    taken = 0
    while True:
        try:
            take()
        except LimitReachedError:
            return taken
        taken += 1


def test_processes_that_share_a_limit_ask_for_no_tile_more(tmp_path: Path) -> None:
    limit = Limit(max_tiles=500)
    several = [spending(tmp_path, limit) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(lambda each: until_refused(lambda: each.take(1)), several))
    assert sum(counts) == 500
    assert "maxTiles: 500" in several[0].reached
    for each in several:
        each.close()
    again = spending(tmp_path, Limit(max_tiles=510))
    assert until_refused(lambda: again.take(1)) == 10


def test_what_a_process_does_not_use_is_left_to_the_others(tmp_path: Path) -> None:
    limit = Limit(max_tiles=200)
    first, second = spending(tmp_path, limit), spending(tmp_path, limit)
    first.take(1)
    first.close()
    assert until_refused(lambda: second.take(1)) == 199


def test_money_is_spent_to_the_last_call_and_no_further(tmp_path: Path) -> None:
    meter = Meter()

    def call() -> None:
        mine.take(1)
        meter.calls_begin(1)

    with settings.override(prices=Prices.model_validate({"models": {"ships": {"call": 0.5}}})):
        mine = spending(tmp_path, Limit(max_cost=20.0), meter)
        assert until_refused(call) == 40
        assert "maxCost: the 20.00 USD" in mine.reached


def test_repeated_calls_and_bytes_count_too(tmp_path: Path, priced: None) -> None:
    meter = Meter()
    mine = spending(tmp_path, Limit(max_cost=20.0), meter)

    def call() -> None:
        mine.take(1)
        meter.calls_begin(2)  # the first fails
        meter.read(10**9)

    assert until_refused(call) <= 20
    mine.close()
    spent = Spent.model_validate_json((tmp_path / "spent.json").read_text())
    most_in_flight = 1.01
    assert 20 - most_in_flight <= spent.cost <= 20 + most_in_flight


def test_the_hours_of_instances_count_once_however_many_processes(
    tmp_path: Path, priced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("tasks.cost.limit.time.time", lambda: now[0])
    limit = Limit(max_cost=6.0)  # of an hour
    several = [spending(tmp_path, limit, model=("roads",)) for _ in range(2)]
    several[0].begin()
    for minute in range(60):
        now[0] = 60.0 * minute
        several[minute % 2].take(64)
    now[0] = 3600.0
    with pytest.raises(LimitReachedError, match="maxCost"):
        several[0].take(64)
    now[0] = 9 * 3600.0  # a pause costs nothing
    later = spending(tmp_path, Limit(max_cost=6.5), model=("roads",))
    later.begin()
    later.take(1)


def test_near_the_limit_few_tiles_are_taken_also_where_calls_have_no_price(
    tmp_path: Path, priced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("tasks.cost.limit.time.time", lambda: now[0])
    mine = spending(tmp_path, Limit(max_cost=6.0), model=("roads",))  # of an hour
    mine.begin()
    for minute in range(59):
        now[0] = 60.0 * minute
        mine.take(64)
    now[0] = 3590.0  # what is left pays for ten tiles
    mine.take(1)
    spent = Spent.model_validate_json((tmp_path / "spent.json").read_text())
    assert 59 * 64 + 1 <= spent.tiles < 59 * 64 + 10


@given(
    most=st.integers(1, 300),
    takes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=80),
)
def test_no_order_of_takes_exceeds_the_limit(
    tmp_path_factory: pytest.TempPathFactory, most: int, takes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("spent")
    several = [spending(folder, Limit(max_tiles=most)) for _ in range(4)]
    taken = 0
    for who, tiles in takes:
        try:
            several[who].take(tiles)
        except LimitReachedError:
            continue
        taken += tiles
    assert taken <= most


def test_what_regions_used_is_added_up_by_job(tmp_path: Path) -> None:
    store_usage(str(tmp_path), "job-1", Usage(calls=2))
    store_usage(str(tmp_path), "job-1", Usage(calls=3, bytes_read=5))
    store_usage(str(tmp_path), "job-2", Usage(calls=9))
    found = stored_usage(str(tmp_path), "job-1")
    assert sum(found.values(), Usage()) == Usage(calls=5, bytes_read=5)
    forget_usage(found)
    assert stored_usage(str(tmp_path), "job-1") == {}
    assert len(stored_usage(str(tmp_path), "job-2")) == 1


def test_a_meter_gives_each_call_and_second_once() -> None:
    meter = Meter()
    meter.take()
    meter.calls_begin(3)
    meter.calls_failed(1)
    first = meter.take()
    assert (first.calls, first.failed_calls) == (3, 1)
    assert first.cpu_seconds >= 0
    assert meter.take().calls == 0
    assert meter.total.calls == 3


def test_what_a_killed_process_took_stays_taken(tmp_path: Path) -> None:
    limit = Limit(max_tiles=100)
    spending(tmp_path, limit).take(1)  # and no more: it is killed
    again = spending(tmp_path, limit)
    taken = until_refused(lambda: again.take(1))
    assert 100 - 64 <= taken < 100


def test_a_forked_process_counts_its_own_processor_time_alone() -> None:
    child = get_context("fork").Pool(1)
    with child:
        assert 0 <= child.apply(take_cpu) < take_cpu() + 60
