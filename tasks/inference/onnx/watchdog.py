"""A watchdog for calls of onnxruntime: ends calls that take too long, and all calls on close."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

_CHECKS_PER_TIMEOUT = 4  # more for a long time-out: there is at least one check per second


class Watchdog:
    """Terminates calls through their RunOptions.

    One thread watches all calls, as a timer for each call would cost 0.4 ms.

    Attributes:
        timeout: Seconds that a call may take.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._closed = Event()
        self._deadlines: dict[Any, float] = {}
        Thread(target=self._check, name="watchdog", daemon=True).start()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.is_set()

    @contextmanager
    def guard(self, options: Any) -> Iterator[None]:  # noqa: ANN401 - onnxruntime's RunOptions
        """Watch the call that is made with these options inside the `with` block."""
        self._deadlines[options] = time.monotonic() + self.timeout
        if self.closed:  # `close` may have run just before the call was registered
            options.terminate = True
        try:
            yield
        finally:
            del self._deadlines[options]

    def close(self) -> None:
        """Terminate all calls at their next operator."""
        self._closed.set()
        for options in tuple(self._deadlines):
            options.terminate = True

    def _check(self) -> None:
        while not self._closed.wait(min(1.0, self.timeout / _CHECKS_PER_TIMEOUT)):
            now = time.monotonic()
            for options, deadline in tuple(self._deadlines.items()):
                if now > deadline:
                    options.terminate = True
