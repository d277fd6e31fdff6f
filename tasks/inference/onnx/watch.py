"""A watch over calls in this process: those that take too long are ended, and all at the close."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

_LOOKS = 4  # in the time that a call may take, but a second apart at most


class Watch:
    """Ends onnxruntime's calls by their options; one thread, as a timer a call costs 0.4 ms.

    Attributes:
        timeout: Seconds that a call may take.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._closed = Event()
        self._deadlines: dict[Any, float] = {}
        Thread(target=self._look, name="watch", daemon=True).start()

    @property
    def closed(self) -> bool:
        """Whether no call is wanted any more."""
        return self._closed.is_set()

    @contextmanager
    def over(self, call: Any) -> Iterator[None]:  # noqa: ANN401 - onnxruntime's RunOptions
        """Watch a call for as long as it is under way."""
        self._deadlines[call] = time.monotonic() + self.timeout
        if self.closed:  # it may have come too late for `close`
            call.terminate = True
        try:
            yield
        finally:
            del self._deadlines[call]

    def close(self) -> None:
        """End all calls at their next operator."""
        self._closed.set()
        for call in tuple(self._deadlines):
            call.terminate = True

    def _look(self) -> None:
        while not self._closed.wait(min(1.0, self.timeout / _LOOKS)):
            now = time.monotonic()
            for call, deadline in tuple(self._deadlines.items()):
                if now > deadline:
                    call.terminate = True
