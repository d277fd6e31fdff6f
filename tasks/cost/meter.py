"""Counts what a process uses for an image, while it works."""

from __future__ import annotations

import os
import time
from collections import Counter
from threading import Lock

from tasks.cost.usage import Usage


class _Processor:
    """The processor time of this process, each second of which is given once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._taken = time.process_time()
        os.register_at_fork(after_in_child=self._begin_anew)

    def take(self) -> float:
        """Seconds since the last call, by whichever thread."""
        with self._lock:
            before, self._taken = self._taken, time.process_time()
            return self._taken - before

    def _begin_anew(self) -> None:
        """A process that was forked has used nothing yet."""
        self._lock, self._taken = Lock(), 0.0


_PROCESSOR = _Processor()


def take_cpu() -> float:
    """Seconds of processor time of this process since the last call, by whichever thread.

    So two images or regions that a process works at once never count the same second twice.
    """
    return _PROCESSOR.take()


class Meter:
    """Counts calls and bytes, in any thread."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = Lock()
        self._counts: Counter[str] = Counter()
        self._taken = Usage()

    @property
    def total(self) -> Usage:
        """All that was counted since the beginning; of processor time, what was taken."""
        with self._lock:
            return Usage.model_validate(dict(self._counts))

    def calls_begin(self, calls: int) -> None:
        """Count calls of the model that begin."""
        self._add("calls", calls)

    def calls_failed(self, calls: int) -> None:
        """Count calls, among those that began, that were not answered."""
        self._add("failed_calls", calls)

    def read(self, count: int) -> None:
        """Count bytes that were read."""
        self._add("bytes_read", count)

    def stored(self, count: int) -> None:
        """Count bytes that were stored."""
        self._add("bytes_stored", count)

    def count_cpu(self) -> None:
        """Count the processor time of this process since any of its meters counted it last."""
        self._add("cpu_seconds", take_cpu())

    def take(self) -> Usage:
        """What was counted since the last call, with the processor time until now."""
        self.count_cpu()
        total = self.total
        before, self._taken = self._taken, total
        return Usage.model_validate({name: each - getattr(before, name) for name, each in total})

    def _add(self, name: str, count: float) -> None:
        with self._lock:
            self._counts[name] += count  # type: ignore[assignment]
