"""Sends the metrics of this process by all ways that are set, every few seconds and at its end."""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TypeVar

from tasks.settings import settings
from tasks.telemetry import emf, otlp
from tasks.telemetry.catalogue import Kind
from tasks.telemetry.machine import ProcessTotals
from tasks.telemetry.source import SOURCE, Series
from tasks.telemetry.totals import Totals

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

INTERVAL = 10.0
"""Seconds between two exports to a folder or a collector."""

_LINES_INTERVAL = 60.0  # CloudWatch keeps one value a minute
_LAST = 5.0  # seconds that the end of a process waits for a collector

_lock = Lock()
_exports: _Exports | None = None


class _Exports:
    """The ways out of one process."""

    def __init__(
        self,
        *,
        lines: bool,
        folder: Path | None,
        send: Callable[[Totals], None] | None,
        flush_spans: Callable[[], None] | None,
    ) -> None:
        self._lines, self._send, self._flush_spans = lines, send, flush_spans
        self._totals = Totals()
        self._file = _without_errors(partial(ProcessTotals, folder)) if folder else None
        self._buffer: list[Series] = []
        self._written = time.time()
        self._lock, self._ended = Lock(), Event()
        self._thread = Thread(target=self._run, name="telemetry", daemon=True)
        SOURCE.on = lines or self._file is not None or send is not None

    def start(self) -> None:
        """Export every few seconds, in a thread."""
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.export()
            self._send_totals()
        self._send_totals()
        if self._flush_spans:
            _without_errors(self._flush_spans)

    def end(self) -> None:
        """Export for the last time; a collector that does not answer is not waited for."""
        self.export(over=True)
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_LAST)
            if self._thread.is_alive():
                logger.warning("The last metrics and spans are lost: no answer of the collector")

    def export(self, *, over: bool = False) -> None:
        """Write what has come in since the last time to the log and the folder.

        Args:
            over: Whether this process ends.
        """
        with self._lock:
            series = SOURCE.drain()
            self._totals.add(series)
            if self._lines:
                self._buffer += series
                now = time.time()
                if over or now // _LINES_INTERVAL > self._written // _LINES_INTERVAL:
                    _without_errors(self._write_lines)
                    self._written = now
            if self._file is not None:
                _without_errors(partial(self._file.write, self._totals, over=over))

    def _send_totals(self) -> None:
        """Send all that was counted, without the lock: a collector may take long to answer."""
        if self._send is not None:
            totals = Totals()
            with self._lock:
                totals.merge(self._totals)
            _without_errors(partial(self._send, totals))

    def _write_lines(self) -> None:
        buffer, self._buffer = self._buffer, []
        text = b"".join(emf.lines(_joined(buffer), round(time.time() * 1000)))
        with suppress(BrokenPipeError):
            while text:
                text = text[os.write(1, text) :]


def _without_errors(way: Callable[[], Value]) -> Value | None:
    """What a function returns; an error is logged, as no job fails for its metrics."""
    try:
        return way()
    except Exception:
        logger.warning("Metrics are not exported", exc_info=True)
        return None


def _joined(drained: Sequence[Series]) -> list[Series]:
    """The series of several drains as one each; the mean of a gauge."""
    joined: dict[tuple[object, object], Series] = {}
    for each in drained:
        key = each.metric, each.dimensions
        joined.setdefault(key, Series(each.metric, each.dimensions)).values.extend(each.values)
    for each in joined.values():
        if each.metric.kind is not Kind.DURATION:
            total = sum(each.values)
            counted = each.metric.kind is Kind.COUNTER
            each.values[:] = [total if counted else total / len(each.values)]
    return list(joined.values())


def start_telemetry() -> None:
    """Begin to export by the ways that are set; a second call in a process does nothing."""
    global _exports  # noqa: PLW0603 - there is one source in a process
    with _lock:
        if _exports is not None:
            return
        chosen = settings()
        send = _without_errors(otlp.metric_exporter) if otlp.wanted("METRICS") else None
        flush_spans = _without_errors(otlp.start_tracing) if otlp.wanted("TRACES") else None
        _exports = _Exports(
            lines=chosen.metrics_emf,
            folder=chosen.metrics_folder,
            send=send,
            flush_spans=flush_spans,
        )
        if SOURCE.on or flush_spans:
            _exports.start()
        atexit.register(_end)


def _end() -> None:
    if _exports is not None:
        _exports.end()


def _forget() -> None:
    """In the child of a fork: it has no thread yet, and its parent's values are not its own."""
    global _exports, _lock
    _exports, _lock = None, Lock()
    SOURCE.on = False


os.register_at_fork(after_in_child=_forget)
