"""Waiting for what another thread or process does, with room for a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMEOUT = 420.0  # seconds; reached only by a test that fails


def until(
    condition: Callable[[], object],
    what: Callable[[], object] = lambda: "",
    *,
    interval: float = 0.1,
) -> None:
    """Wait until a condition is true.

    Args:
        condition: Is called every `interval` seconds.
        what: Says what there was instead.
        interval: Seconds between two calls.

    Raises:
        AssertionError: It never came true.
    """
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"it never came true: {what()}"
        time.sleep(interval)
