"""Log lines as JSON, with the job, image, region and run that they are about."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from tasks.settings import LogFormat, settings
from tasks.telemetry.fields import current_fields

_ECS = "ECS_CONTAINER_METADATA_URI_V4"  # a variable that ECS sets in every container
_OF_PREFECT = {"flow_run_id": "run", "flow_run_name": "run_name", "task_run_name": "task_run"}
"""Attributes that Prefect gives to the records of a run, and the names that they get."""


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of each record.

    Its fields are `timestamp`, `level`, `logger`, `message`, those of `working_on`, those of the
    run in Prefect, and `error` with a traceback.
    """

    def __init__(self, *_: object) -> None:
        """Take no format, whatever a configuration of logging gives."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for attribute, name in _OF_PREFECT.items():
            if value := getattr(record, attribute, None):
                line[name] = str(value)
        line |= current_fields()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # of a text that is not valid Unicode, as file names may be
            return json.dumps(line, default=str)


def json_wanted() -> bool:
    """Whether log lines are JSON: by the setting, or else on ECS."""
    chosen = settings().log_format
    return chosen is LogFormat.JSON if chosen else _ECS in os.environ


def set_up_logs() -> None:
    """Have all handlers of this process that write to the console write JSON, if it is wanted.

    On a terminal, lines stay text, as Python's logging or Prefect writes them.
    """
    if not json_wanted():
        return
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for logger in loggers:
        for handler in [each for each in logger.handlers if _on_console(each)]:
            of_json = logging.StreamHandler(sys.stderr)
            of_json.setFormatter(JsonFormatter())
            of_json.setLevel(handler.level)
            logger.removeHandler(handler)
            logger.addHandler(of_json)
    if not logging.root.handlers:
        of_json = logging.StreamHandler(sys.stderr)
        of_json.setFormatter(JsonFormatter())
        logging.root.addHandler(of_json)


def _on_console(handler: logging.Handler) -> bool:
    return (
        isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
        and not isinstance(handler.formatter, JsonFormatter)
    )
