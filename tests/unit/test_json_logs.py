"""Log lines as JSON: their fields, and what is logged about failed calls."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rasterio.windows import Window

from tasks.errors import AnswerError, ThrottledError
from tasks.grid.tiles import Tile
from tasks.inference.failed_call_log import FailedCallLog
from tasks.settings import LogFormat, settings
from tasks.telemetry.fields import process_works_on, working_on
from tasks.telemetry.logs import JsonFormatter, json_wanted

TILE = Tile(17, Window(448, 896, 512, 256))


def line(message: str, *values: object, **extra: object) -> dict[str, str]:
    record = logging.LogRecord("tasks.x", logging.INFO, "x.py", 1, message, values, None)
    vars(record).update(extra)
    written: dict[str, str] = json.loads(JsonFormatter().format(record))
    return written


def test_a_line_says_what_it_is_about() -> None:
    with process_works_on(job="other"), working_on(job="job-1", image="s3://a/b.tif"):
        with working_on(region="region 1 of 2", attempt=None):
            found = line("%d tiles\nmore", 3)
        outside = line("x")
    assert found.pop("timestamp").endswith("+00:00")
    assert found == {
        "level": "INFO",
        "logger": "tasks.x",
        "message": "3 tiles\nmore",
        "job": "job-1",
        "image": "s3://a/b.tif",
        "region": "region 1 of 2",
    }
    assert "region" not in outside
    assert "job" not in line("x")


def test_threads_without_fields_have_those_of_the_process() -> None:
    with process_works_on(job="job-1"), ThreadPoolExecutor(1) as threads:
        assert threads.submit(line, "x").result()["job"] == "job-1"


def test_lines_of_prefect_have_its_run() -> None:
    found = line("x", flow_run_id="0192", flow_run_name="scene - job-1", task_run_name="batch")
    assert (found["run"], found["run_name"], found["task_run"]) == (
        "0192",
        "scene - job-1",
        "batch",
    )


def test_lines_are_json_on_ecs_or_as_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECS_CONTAINER_METADATA_URI_V4", raising=False)
    assert not json_wanted()
    with settings.override(log_format=LogFormat.JSON):
        assert json_wanted()
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4")
    assert json_wanted()
    with settings.override(log_format=LogFormat.TEXT):
        assert not json_wanted()


def test_prefect_writes_json_by_its_own_variables(tmp_path: Path) -> None:
    program = (
        "import logging; from prefect.logging.configuration import setup_logging\n"
        "setup_logging()\n"
        "logging.getLogger('prefect.x').warning('a [b] [red]c[/red] %s', 'd' * 99)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
            "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "tasks.telemetry.logs.JsonFormatter",
        },
        capture_output=True,
        timeout=240,
        check=True,
    )
    written = json.loads(done.stderr)
    assert written["message"] == "a [b] [red]c[/red] " + "d" * 99
    assert written["level"] == "WARNING"


def test_a_failed_call_is_logged_with_its_tile_and_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = FailedCallLog()
    log.add(TILE, ThrottledError("503 Service Unavailable: busy"))
    (message,) = caplog.messages
    assert "tile 17 (512 × 256 px at 448, 896)" in message
    assert "ThrottledError: 503 Service Unavailable: busy" in message


def test_of_many_failed_calls_the_first_of_each_kind_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = FailedCallLog()
    for _ in range(1000):
        log.add(TILE, ThrottledError("503"))
    log.add(TILE, AnswerError("no JSON"))
    assert sum("ThrottledError: 503" in each for each in caplog.messages) == 5
    assert "AnswerError: no JSON" in caplog.messages[-1]
    assert sum("the ledger" in each for each in caplog.messages) == 1
