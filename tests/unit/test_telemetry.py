"""The source of metrics and its ways out: lines for CloudWatch, totals and text for Prometheus."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tasks.telemetry import emf, machine
from tasks.telemetry.catalogue import (
    CALLS_IN_FLIGHT,
    DURATION,
    INVOCATIONS,
    METRICS,
    OLDEST_IMAGE_AGE,
    TILES,
    Kind,
    Operation,
)
from tasks.telemetry.machine import ProcessTotals, machine_totals
from tasks.telemetry.operations import operation, record_operation
from tasks.telemetry.prometheus import exposition, name_of
from tasks.telemetry.source import SOURCE, Series, Source
from tasks.telemetry.totals import BOUNDS, Totals
from tests.emf import points
from tests.pages import read, rows

SECONDS = st.floats(0, 5000, allow_nan=False)


@pytest.fixture
def source() -> Source:
    source = Source()
    source.on = True
    return source


def test_a_source_that_nobody_asks_keeps_nothing() -> None:
    source = Source()
    source.add(TILES, 3, ModelName="ships", State="blank")
    assert source.drain() == []


def test_a_source_gives_each_value_once(source: Source) -> None:
    source.add(TILES, 3, ModelName="ships", State="blank")
    source.add(TILES, 4, ModelName="ships", State="blank")
    source.observe(DURATION, 0.5, 1.5, Operation="ModelInvocation")
    found = {series.metric: series for series in source.drain()}
    assert found[TILES].values == [7]
    assert found[TILES].dimensions == (("ModelName", "ships"), ("State", "blank"))
    assert found[DURATION].values == [0.5, 1.5]
    assert source.drain() == []


def test_gauges_are_read_while_they_are_open(source: Source) -> None:
    with (
        source.gauge(CALLS_IN_FLIGHT, lambda: 3, ModelName="ships"),
        source.gauge(CALLS_IN_FLIGHT, lambda: 4, ModelName="ships"),
        source.gauge(OLDEST_IMAGE_AGE, lambda: 10),
        source.gauge(OLDEST_IMAGE_AGE, lambda: 70),
        source.gauge(CALLS_IN_FLIGHT, lambda: None, ModelName="cars"),
    ):
        found = {series.metric: series.values for series in source.drain()}
    assert found == {CALLS_IN_FLIGHT: [7], OLDEST_IMAGE_AGE: [70]}
    assert source.drain() == []


@given(st.lists(SECONDS, max_size=350), st.text(max_size=400))
def test_lines_keep_every_value_and_follow_the_specification(
    seconds: list[float], model: str
) -> None:
    source = Source()
    source.on = True
    source.observe(DURATION, *seconds, Operation="ModelInvocation", ModelName=model)
    source.add(INVOCATIONS, len(seconds), Operation="ModelInvocation", ModelName=model)
    source.add(TILES, 5, ModelName=model, State="inferred")
    found = points(b"".join(emf.lines(source.drain(), 1_700_000_000_000)))
    kept = [value for point in found if point.name == "Duration" for value in point.values]
    assert kept == pytest.approx(seconds, rel=1e-4)
    assert sum(v for p in found if p.name == "Invocations" for v in p.values) == len(seconds)
    assert [(p.namespace, p.values) for p in found if p.name == "Tiles"] == [("Swath", [5])]


def test_scheduling_is_in_milliseconds_as_in_osml() -> None:
    series = [Series(DURATION, (("Operation", Operation.SCHEDULING.value),), [0.25])]
    (point,) = points(b"".join(emf.lines(series, 0)))
    assert (point.unit, point.values) == ("Milliseconds", [250])


def test_an_operation_is_counted_and_fails_with_its_error() -> None:
    SOURCE.drain()
    SOURCE.on = True
    try:
        with operation(Operation.STORAGE):
            pass
        with pytest.raises(ValueError, match="no"), operation(Operation.STORAGE):
            raise ValueError("no")
        record_operation(Operation.IMAGE, 2.0, ModelName="ships", InputFormat="GTIFF")
        found = [(s.metric.name, dict(s.dimensions), s.values) for s in SOURCE.drain()]
    finally:
        SOURCE.on = False
    storage = {name: values for name, of, values in found if of == {"Operation": "FeatureStorage"}}
    assert storage["Invocations"] == [2]
    assert storage["Errors"] == [1]
    assert len(storage["Duration"]) == 2
    image = {"Operation": "ImageProcessing", "ModelName": "ships", "InputFormat": "GTIFF"}
    assert ("Duration", image, [2.0]) in found


@given(st.lists(st.lists(SECONDS, max_size=20), max_size=6))
def test_totals_of_processes_add_up_to_those_of_one(processes: list[list[float]]) -> None:
    together, merged = Totals(), Totals()
    for seconds in processes:
        source = Source()
        source.on = True
        source.observe(DURATION, *seconds, Operation="ModelInvocation")
        source.add(TILES, len(seconds), ModelName="ships", State="inferred")
        series, alone = source.drain(), Totals()
        alone.add(series)
        together.add(series)
        merged.merge(Totals.from_json(alone.to_json()))
    assert merged.counters == together.counters
    assert merged.histograms.keys() == together.histograms.keys()
    for key, histogram in merged.histograms.items():
        assert histogram.counts == together.histograms[key].counts
        assert histogram.total == pytest.approx(together.histograms[key].total)


def _totals(tiles: int, *, in_flight: int = 0) -> Totals:
    source, totals = Source(), Totals()
    source.on = True
    source.add(TILES, tiles, ModelName="ships", State="inferred")
    source.observe(DURATION, *[0.02] * tiles, Operation="ModelInvocation", ModelName="ships")
    with source.gauge(CALLS_IN_FLIGHT, lambda: in_flight, ModelName="ships"):
        totals.add(source.drain())
    return totals


def _tiles(folder: Path) -> float:
    return sum(machine_totals(folder).counters.values())


def test_what_ended_processes_counted_stays(tmp_path: Path) -> None:
    living, ended = ProcessTotals(tmp_path), ProcessTotals(tmp_path)
    living.write(_totals(3, in_flight=2))
    ended.write(_totals(4, in_flight=5))
    assert sum(machine_totals(tmp_path).gauges.values()) == 7
    ended.write(_totals(6, in_flight=5), over=True)
    for _ in range(3):
        assert _tiles(tmp_path) == 9
        assert sum(machine_totals(tmp_path).gauges.values()) == 2
    assert len(list(tmp_path.glob("*.json"))) == 2  # of the living one, and of all that ended


def test_a_process_that_was_killed_is_counted_too(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.test_telemetry import _totals; from tasks.telemetry.machine import *\n"
        "ProcessTotals(Path(sys.argv[1])).write(_totals(8, in_flight=5))\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=120)
    (file,) = tmp_path.glob("*.live.json")
    assert _tiles(tmp_path) == 8
    os.utime(file, (0, 0))
    for _ in range(2):
        totals = machine_totals(tmp_path)
        assert (sum(totals.counters.values()), totals.gauges) == (8, {})
    assert not file.exists()


def test_files_that_are_counted_already_are_not_counted_again(tmp_path: Path) -> None:
    ProcessTotals(tmp_path).write(_totals(5), over=True)
    (file,) = tmp_path.glob("*.over.json")
    text = file.read_bytes()
    assert _tiles(tmp_path) == 5
    file.write_bytes(text)  # as if the reader had been killed before it removed the file
    assert _tiles(tmp_path) == 5


def test_a_damaged_file_is_left_out(tmp_path: Path) -> None:
    ProcessTotals(tmp_path).write(_totals(5))
    (tmp_path / f"{os.getpid()}-x{machine._LIVE}").write_text('{"counters": 1}')
    (tmp_path / f"1-y{machine._OVER}").write_text("[")
    assert _tiles(tmp_path) == 5


def test_prometheus_text_has_the_totals() -> None:
    found = {
        sample.name: sample
        for family in text_string_to_metric_families(exposition(_totals(3)).decode())
        for sample in family.samples
        if sample.labels.get("le", "+Inf") == "+Inf"
    }
    assert found["swath_tiles_total"].value == 3
    assert found["swath_tiles_total"].labels == {"model_name": "ships", "state": "inferred"}
    assert found["osml_duration_seconds_bucket"].value == 3
    assert found["osml_duration_seconds_sum"].value == pytest.approx(0.06)
    labels = {"operation": "ModelInvocation", "model_name": "ships", "input_format": ""}
    assert found["osml_duration_seconds_count"].labels == labels


def test_bounds_of_buckets_ascend() -> None:
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_the_page_lists_every_metric_with_its_dimensions() -> None:
    page = read("metrics")
    own = {cells[0].strip("`"): cells for cells in rows(page, "CloudWatch")}
    for metric in METRICS:
        if metric.namespace.value != "Swath":
            assert f"`{metric.name}`" in page
            continue
        _, prometheus, dimensions, *_ = own.pop(metric.name)
        ending = "_total" if metric.kind is Kind.COUNTER else ""
        assert prometheus == f"`{name_of(metric)}{ending}`"
        assert tuple(re.findall(r"`(\w+)`", dimensions)) == metric.dimensions
    assert own == {}
    for each in Operation:
        assert f"`{each.value}`" in page


def test_json_totals_survive_metrics_of_another_version() -> None:
    text = json.loads(_totals(3).to_json())
    text["counters"].append(["Swath", "Gone", [], 7])
    assert sum(Totals.from_json(json.dumps(text).encode()).counters.values()) == 3
