"""Patience with an endpoint: how often a tile is tried, and how long in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tasks.errors import EndpointError, Permanent, Throttled

_FIRST_WAIT = 0.5  # seconds, at most
_LONGEST_WAIT = 20.0

T = TypeVar("T")


def attempt(call: Callable[[], T], attempts: int) -> T:
    """Call until it answers.

    Waits grow exponentially with full jitter (Brooker, "Exponential Backoff And Jitter", 2015);
    an endpoint's own Retry-After, up to 20 s, is waited out before that.

    Args:
        call: Asks the endpoint.
        attempts: Calls that may be made, 1 or more.

    Raises:
        EndpointError: The last one, once the attempts are spent; a permanent one at once.
        ValueError: No attempt is allowed.
    """
    for number in range(1, attempts + 1):
        try:
            return call()
        except EndpointError as error:
            if isinstance(error, Permanent) or number == attempts:
                raise
            least = error.retry_after if isinstance(error, Throttled) else None
            time.sleep(_wait(number, least or 0.0))
    raise ValueError(f"attempts must be 1 or more, not {attempts}")


def _wait(number: int, least: float) -> float:
    backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (number - 1))
    return min(_LONGEST_WAIT, least) + random.uniform(0, backoff)  # noqa: S311 - jitter
