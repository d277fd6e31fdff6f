"""Waiting for what another thread or process does, with room for a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMEOUT = 420.0  # seconds; reached only by a test that fails
_PAUSE = 9  # times as long as a call took: so polling takes a tenth of a processor at most
_LONGEST_PAUSE = 0.5  # seconds


def until(
    condition: Callable[[], object],
    what: Callable[[], object] = lambda: "",
    *,
    interval: float = 0.1,
) -> None:
    """Wait until a condition is true.

    Args:
        condition: Is called every `interval` seconds, or less often if a call takes long: one that
            asks Prefect takes 50 ms of CPU, here and in its server, which the tests wait for.
        what: Says what there was instead.
        interval: Seconds between two calls, at least.

    Raises:
        AssertionError: It never came true.
    """
    end = time.monotonic() + TIMEOUT
    began = time.monotonic()
    while not condition():
        called = time.monotonic()
        assert called < end, f"it never came true: {what()}"
        time.sleep(max(interval, min(_PAUSE * (called - began), _LONGEST_PAUSE)))
        began = time.monotonic()
