"""No job fails or waits for its metrics, whatever is wrong with the ways out of its process."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ImageError
from tasks.job.image import check_plan
from tasks.settings import settings
from tasks.telemetry import emf, export
from tasks.telemetry.catalogue import BACKLOG_TILES, DURATION, TILES
from tasks.telemetry.export import _Exports
from tasks.telemetry.logs import JsonFormatter
from tasks.telemetry.source import SOURCE, Source
from tasks.telemetry.totals import Totals
from tests.job_scene import request


def test_a_folder_that_cannot_be_made_fails_no_job(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = "from tasks.telemetry.export import start_telemetry; start_telemetry(); print('goes on')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"SWATH_METRICS_FOLDER": str(tmp_path / "file" / "metrics")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "goes on\n", done.stderr
    assert "Metrics are not exported" in done.stderr


def test_a_collector_that_does_not_answer_delays_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answered = Event()

    def send(_: Totals) -> None:
        answered.wait(60)

    monkeypatch.setattr(export, "_LAST", 0.2)
    monkeypatch.setattr(SOURCE, "on", False)
    exports = _Exports(lines=False, folder=tmp_path, send=send, flush_spans=None)
    exports.start()
    SOURCE.add(TILES, 3, ModelName="ships", State="inferred")
    began = time.monotonic()
    exports.end()
    assert time.monotonic() - began < 10
    answered.set()
    assert "no answer of the collector" in caplog.text
    (file,) = tmp_path.glob("*.over.json")
    assert 3 in Totals.from_json(file.read_bytes()).counters.values()


def test_the_last_totals_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Totals] = []
    monkeypatch.setattr(SOURCE, "on", False)
    exports = _Exports(lines=False, folder=None, send=sent.append, flush_spans=None)
    exports.start()
    SOURCE.add(TILES, 3, ModelName="ships", State="inferred")
    exports.end()
    assert 3 in sent[-1].counters.values()


def test_a_gauge_that_cannot_be_read_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.on = True

    def fail() -> float:
        raise OSError("the folder is gone")

    values = {"broken": fail, "none": lambda: math.nan, "whole": lambda: 7.0}
    with ExitStack() as gauges:
        for model, read in values.items():
            gauges.enter_context(source.gauge(BACKLOG_TILES, read, ModelName=model))
        (only,) = source.drain()
    assert (only.dimensions, only.values) == ((("ModelName", "whole"),), [7.0])
    assert "The metric BacklogTiles is not read: OSError('the folder is gone')" in caplog.text


@given(st.lists(st.floats(0, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf])))
def test_values_that_are_no_numbers_are_in_no_line(values: list[float]) -> None:
    source = Source()
    source.on = True
    source.observe(DURATION, *values, Operation="ModelInvocation")
    for value in values:
        source.add(TILES, value, ModelName="ships", State="inferred")
    series = source.drain()
    kept = [each for of in series if of.metric is DURATION for each in of.values]
    assert kept == list(filter(math.isfinite, values))
    assert all(b"null" not in line for line in emf.lines(series, 0))


def test_an_image_that_cannot_be_opened_is_an_error_of_its_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    (tmp_path / "scene.tif").write_text("no image")
    asked = request(tmp_path / "scene.tif", tmp_path / "out")
    SOURCE.drain()
    monkeypatch.setattr(SOURCE, "on", True)
    with pytest.raises(ImageError):
        check_plan(asked, asked.image_urls[0])
    found = {(each.metric.name, each.dimensions): each.values for each in SOURCE.drain()}
    settings.cache_clear()
    about = {
        "Operation": "ImageProcessing",
        "ModelName": asked.image_processor.metric_name,
        "InputFormat": "unknown",
    }
    assert found["Errors", tuple(about.items())] == [1]
    assert found["Invocations", tuple(about.items())] == [1]


def test_a_dimension_has_no_control_character() -> None:
    source = Source()
    source.on = True
    source.add(TILES, ModelName='a"b\nc\x00\x1b[0m\x7f é' + "x" * 2000, State=":\x00")
    (line,) = emf.lines(source.drain(), 0)
    found = json.loads(line)
    assert found["ModelName"].startswith('a"b c [0m ?x')
    assert len(found["ModelName"]) <= 250
    assert found["State"] == "unknown"


def test_a_line_with_half_a_surrogate_pair_is_json() -> None:
    name = "scene-\udce9.tif"  # as Python reads a file name that is not UTF-8
    record = logging.LogRecord("tasks.x", logging.INFO, "x.py", 1, "%s is read", (name,), None)
    line = JsonFormatter().format(record)
    assert json.loads(line)["message"] == f"{name} is read"
    line.encode()
