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

from tasks.settings import settings
from tasks.telemetry import emf, otlp
from tasks.telemetry.catalogue import Kind
from tasks.telemetry.machine import ProcessTotals
from tasks.telemetry.source import SOURCE, Series
from tasks.telemetry.totals import Totals

logger = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two exports to a folder or a collector."""

_LINES_INTERVAL = 60.0  # CloudWatch keeps one value a minute

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
        self._file = ProcessTotals(folder) if folder else None
        self._buffer: list[Series] = []
        self._written = time.time()
        self._lock, self._ended = Lock(), Event()
        SOURCE.on = lines or folder is not None or send is not None

    def start(self) -> None:
        """Export every few seconds, in a thread."""
        Thread(target=self._run, name="telemetry", daemon=True).start()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.export()

    def export(self, *, over: bool = False) -> None:
        """Export what has come in since the last time.

        Args:
            over: Whether this process ends.
        """
        if over:
            self._ended.set()
        with self._lock:
            series = SOURCE.drain()
            self._totals.add(series)
            ways: list[Callable[[], None]] = []
            if self._lines:
                self._buffer += series
                now = time.time()
                if over or now // _LINES_INTERVAL > self._written // _LINES_INTERVAL:
                    ways.append(self._write_lines)
                    self._written = now
            if self._file is not None:
                ways.append(partial(self._file.write, self._totals, over=over))
            if self._send is not None:
                ways.append(partial(self._send, self._totals))
            if over and self._flush_spans:
                ways.append(self._flush_spans)
            for way in ways:
                try:
                    way()
                except Exception:  # no job fails for its metrics
                    logger.warning("Metrics are not exported", exc_info=True)

    def _write_lines(self) -> None:
        buffer, self._buffer = self._buffer, []
        text = b"".join(emf.lines(_joined(buffer), round(time.time() * 1000)))
        with suppress(BrokenPipeError):
            while text:
                text = text[os.write(1, text) :]


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
        exports = _Exports(
            lines=chosen.metrics_emf,
            folder=chosen.metrics_folder,
            send=otlp.metric_exporter() if otlp.wanted("METRICS") else None,
            flush_spans=otlp.start_tracing() if otlp.wanted("TRACES") else None,
        )
        _exports = exports
        if SOURCE.on:
            exports.start()
        atexit.register(_end)


def export_now() -> None:
    """Export what has come in, without waiting for the next time."""
    if _exports is not None:
        _exports.export()


def _end() -> None:
    if _exports is not None:
        _exports.export(over=True)


def _forget() -> None:
    """In the child of a fork: it has no thread yet, and its parent's values are not its own."""
    global _exports, _lock
    _exports, _lock = None, Lock()
    SOURCE.on = False


os.register_at_fork(after_in_child=_forget)
